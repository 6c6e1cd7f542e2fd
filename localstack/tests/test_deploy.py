"""The harness itself, with functions of a few lines: MiniStack up, the module applied, called, found clean, destroyed, down."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tarn_localstack import processes
from tarn_localstack.__main__ import PACKAGE_ROOT, main
from tarn_localstack.stack import NoStack, Stack
from tarn_localstack.terraform import Terraform
from tarn_localstack.waiting import wait_for


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_the_command_ends_the_emulator(packages: Path, tmp_path: Path, number: int) -> None:
    state = tmp_path / "state"
    arguments = ["test", "--emulator", "ministack", "--state", str(state), "--zips", str(packages), "--", "-k", "none"]
    with (tmp_path / "log").open("wb") as log:
        command = subprocess.Popen(
            [sys.executable, "-m", "tarn_localstack", *arguments],
            env=os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)},
            stdout=log,
            stderr=log,
        )
    try:
        stack = wait_for("the emulator", lambda: Stack.load(state), 60)
        command.send_signal(number)
        assert command.wait(60) != 0
        assert processes.started_at(stack.pid) != stack.started
        with pytest.raises(NoStack):
            Stack.load(state)
        assert not (state / "tmp").exists()
    finally:
        command.kill()
        command.wait()


def test_what_is_missing_is_said_before_anything_is_started(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    common = ["test", "--emulator", "ministack", "--state", str(tmp_path / "state"), "--zips"]
    assert main([*common, str(tmp_path)]) == 1
    assert "cargo xtask package" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*common, str(packages)]) == 1
    assert "terraform" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
