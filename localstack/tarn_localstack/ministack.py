"""Starts MiniStack with IAM enforced: the second opinion, and the one that says no.

It runs `provided` functions by itself, keeps S3 in memory, and with AUTH=true evaluates every role's policies.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from . import processes
from .processes import DidNotStart
from .stack import Stack
from .waiting import TimedOut, wait_for

START_SECONDS = 60.0


def environment(state: Path, port: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        # Functions are given this as their endpoint.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "MINISTACK_HOST": "127.0.0.1",
        "TMPDIR": str(state / "tmp"),
        "SFN_WAIT_SCALE": "0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def start(state: Path, port: int | None = None) -> Stack:
    """A new MiniStack with nothing in it, ready to be used."""
    port = port or processes.free_port()
    (state / "tmp").mkdir(exist_ok=True)
    log = state / "ministack.log"
    server = processes.start([sys.executable, "-m", "tarn_localstack.ministack_server"], environment(state, port), log)
    started = processes.started_at(server.pid)
    endpoint = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        if server.poll() is not None:
            raise TimedOut(f"it ended with status {server.returncode}")
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    try:
        wait_for("MiniStack to answer", ready, START_SECONDS)
    except TimedOut as error:
        if started is not None:
            processes.end(server.pid, started)
        raise DidNotStart(f"MiniStack did not start ({error}); the end of {log}:\n{processes.tail(log)}") from error
    assert started is not None, "it answered"
    return Stack("ministack", endpoint, "test", "test", server.pid, started)
