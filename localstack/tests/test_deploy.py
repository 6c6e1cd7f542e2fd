"""The harness itself, with functions of a few lines: MiniStack up, the module applied, called, found clean, destroyed, down."""

import json
import urllib.request
from pathlib import Path

from tarn_localstack.__main__ import main
from tarn_localstack.stack import NoStack, Stack
from tarn_localstack.terraform import Terraform


def test_up_apply_plan_destroy_down(packages: Path, tmp_path: Path, capsys) -> None:
    common = ["--emulator", "ministack", "--state", str(tmp_path / "state")]
    assert main(["apply", *common, "--zips", str(packages)]) == 1, "nothing is up"
    assert main(["up", *common]) == 0
    stack = Stack.load(tmp_path / "state")
    try:
        assert main(["apply", *common, "--zips", str(packages)]) == 0
        outputs = Terraform(tmp_path / "state", stack).outputs()["tarn"]
        for path, function in (("/healthz", "ingest-http"), ("/api/v1/info/a/1.0", "query")):
            with urllib.request.urlopen(stack.api_url(outputs["api_id"]) + path, timeout=30) as answer:
                assert json.load(answer)["event"]["rawPath"] == path, function
        assert main(["plan", *common]) == 0
        assert main(["destroy", *common]) == 0
    finally:
        assert main(["down", *common]) == 0
    try:
        Stack.load(tmp_path / "state")
        raise AssertionError("it is still remembered")
    except NoStack:
        pass
