"""Starts LocalStack as a process of this machine, on loopback, with our plug-ins and without a licence.

`localstack-core` has the runtime; the plug-ins are found by the entry points in a `dist-info` folder that is written beside
the state and put on PYTHONPATH, so that nothing of ours has to be installed into the server's environment.
"""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

from . import processes
from .stack import Stack

ENTRY_POINTS = """\
[localstack.lambda.runtime_executor]
process = tarn_localstack.server.plugins:ProcessExecutorPlugin

[localstack.runtime.server]
loopback = tarn_localstack.server.plugins:LoopbackServerPlugin

[localstack.hooks.on_infra_start]
objects_below_tmpdir = tarn_localstack.server.plugins:objects_below_tmpdir

[localstack.aws.provider]
apigatewayv2:default = tarn_localstack.server.plugins:apigatewayv2
"""
PACKAGE_ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0


def environment(state: Path, port: int) -> dict[str, str]:
    """Everything that LocalStack reads. Of this process's own environment it gets what finds programs and folders only."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TARN_LOCALSTACK_LIMIT_MEMORY") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(PACKAGE_ROOT), str(state / "plugins")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        # The index of plug-ins is cached; ours must neither be missed nor be left behind for others.
        "XDG_CACHE_HOME": str(state / "cache"),
        "FILESYSTEM_ROOT": str(state / "files"),
        # Metrics, code and, by our plug-in, objects are in folders of fixed names below this: two emulators must not share them.
        "TMPDIR": str(state / "tmp"),
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_SERVER": "loopback",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "LAMBDA_SYNCHRONOUS_CREATE": "1",
        "LAMBDA_KEEPALIVE_MS": "60000",
        # How long events wait after an empty queue and after a failure; the defaults are up to a minute.
        "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.2",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "1",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_ERROR_SEC": "1",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        # Queue URLs on the endpoint itself; host names below an IP address resolve nowhere.
        "SQS_ENDPOINT_STRATEGY": "path",
    }


def start(state: Path, python: Path, port: int | None = None) -> Stack:
    """A new LocalStack with nothing in it, ready to be used."""
    port = port or processes.free_port()
    plugins = state / "plugins" / "tarn_localstack-0.dist-info"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "METADATA").write_text("Metadata-Version: 2.1\nName: tarn-localstack\nVersion: 0\n")
    (plugins / "entry_points.txt").write_text(ENTRY_POINTS)
    for folder in ("files", "tmp"):
        (state / folder).mkdir(exist_ok=True)
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with urllib.request.urlopen(f"{endpoint}/_localstack/health", timeout=2) as answer:
            return "lambda" in json.load(answer)["services"]

    command = [str(python), "-m", "localstack.runtime.main"]
    pid, started = processes.start_server(
        "LocalStack", command, environment(state, port), state / "localstack.log", answers, START_SECONDS
    )
    return Stack("localstack", endpoint, "test", "test", pid, started)
