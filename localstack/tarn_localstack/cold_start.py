"""How long a function's process takes from its start until it asks for an event: what Lambda calls its init duration.

No store is needed: a function makes no request before its first event. The Runtime API answers on loopback, so that what is
measured is the process: loading, linking, and building what it keeps.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

from .functions.environment import INIT_SECONDS
from .functions.runtime_api import RuntimeApi
from .functions.sandbox import environment

SETTINGS = {
    "TARN_STORE": "s3://cold-start",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "cold-start",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
}


class NotReady(RuntimeError):
    """A function that did not get as far as asking for an event."""


def measure(package: Path, runs: int) -> list[float]:
    """Milliseconds of each run, in order; the first reads the file from disk."""
    with tempfile.TemporaryDirectory() as folder:
        bootstrap = Path(zipfile.ZipFile(package).extract("bootstrap", folder))
        bootstrap.chmod(0o755)
        return [_once(bootstrap) for _ in range(runs)]


def summary(name: str, milliseconds: list[float]) -> str:
    first, *rest = milliseconds
    rest = rest or [first]
    return f"{name}: median {statistics.median(rest):.1f} ms, fastest {min(rest):.1f} ms, slowest {max(rest):.1f} ms; the first {first:.1f} ms"


def _once(bootstrap: Path) -> float:
    api = RuntimeApi("cold-start")
    try:
        settings = environment(SETTINGS, api.address)
        with open(os.devnull, "wb") as nowhere:
            began = time.perf_counter()
            process = subprocess.Popen([bootstrap], cwd=bootstrap.parent, env=settings, stdout=nowhere, stderr=nowhere)
            try:
                if not api.wait_idle(INIT_SECONDS):
                    raise NotReady(f"{bootstrap.name} asked for no event within {INIT_SECONDS:g} s: {api.init_error}")
                return (time.perf_counter() - began) * 1000
            finally:
                process.kill()
                process.wait()
    finally:
        api.close()
