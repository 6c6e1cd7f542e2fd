"""Starts MiniStack with IAM enforced: the second opinion, and the one that says no.

It runs `provided` functions by itself, keeps S3 in memory, and with AUTH=true evaluates every role's policies.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path

from . import processes
from .stack import Stack

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
        # Servers of its own that listen on every interface, whatever BIND_HOST says.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(state / "tmp"),
        "SFN_WAIT_SCALE": "0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def start(state: Path, port: int | None = None) -> Stack:
    """A new MiniStack with nothing in it, ready to be used."""
    port = port or processes.free_port()
    (state / "tmp").mkdir(exist_ok=True)
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2) as answer:
            return answer.status == 200

    command = [sys.executable, "-m", "tarn_localstack.ministack_server"]
    pid, started = processes.start_server(
        "MiniStack", command, environment(state, port), state / "ministack.log", answers, START_SECONDS
    )
    return Stack("ministack", endpoint, "test", "test", pid, started)
