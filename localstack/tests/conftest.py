"""The package is used from its folder; nothing is installed."""

import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# A function in a few lines: does what its event says, so that a test can be read without looking here.
BOOTSTRAP = """\
#!/usr/bin/env python3
import json, os, signal, sys, time, urllib.request

api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
runtime = api + "/2018-06-01/runtime/"

def post(path, body=b""):
    urllib.request.urlopen(urllib.request.Request(path, data=body)).read()

if os.environ.get("FAIL_INIT"):
    post(runtime + "init/error", b'{"errorType": "NoConfig"}')
    sys.exit(1)
while True:
    with urllib.request.urlopen(runtime + "invocation/next") as answer:
        request, event = answer.headers["Lambda-Runtime-Aws-Request-Id"], json.load(answer)
        deadline = int(answer.headers["Lambda-Runtime-Deadline-Ms"])
    print("saw", json.dumps(event), flush=True)
    out = {"event": event, "pid": os.getpid(), "left_ms": deadline - time.time() * 1000}
    match event.get("do"):
        case "exit": sys.exit(3)
        case "die": os.kill(os.getpid(), signal.SIGKILL)
        case "hang": time.sleep(60)
        case "big": out = "x" * event["bytes"]
        case "fail":
            post(runtime + f"invocation/{request}/error", b'{"errorType": "Wanted"}')
            continue
        case "write": open("/tmp/left-behind", "w").write("x")
        case "look": out = {"there": os.path.exists("/tmp/left-behind")}
        case "fill":
            try:
                open("/tmp/fill", "wb").write(b"x" * event["bytes"])
                out = {"fits": True}
            except OSError as error:
                out = {"fits": False, "errno": error.errno}
        case "environment": out = dict(os.environ)
    post(runtime + f"invocation/{request}/response", json.dumps(out).encode())
"""


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked package."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "bootstrap").write_text(BOOTSTRAP)
    (folder / "bootstrap").chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in under the names of the three packages."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("ingest-fn", "query-fn", "builder"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, BOOTSTRAP)
    return folder
