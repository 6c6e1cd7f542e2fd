"""The entry points that LocalStack finds (see `tarn_localstack.localstack.ENTRY_POINTS`). Imported at every start: light."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from localstack.runtime import hooks
from localstack.runtime.server.core import RuntimeServer, RuntimeServerPlugin
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.plugins import Service, aws_provider


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """`LAMBDA_RUNTIME_EXECUTOR=process`: functions are processes; the stock executor wants Docker."""

    name = "process"

    def load(self, *args: object, **kwargs: object) -> type:
        from .executor import ProcessExecutor

        return ProcessExecutor


class LoopbackServerPlugin(RuntimeServerPlugin):
    """`GATEWAY_SERVER=loopback`: the stock server ignores the host of GATEWAY_LISTEN and binds all interfaces."""

    name = "loopback"

    def load(self, *args: object, **kwargs: object) -> RuntimeServer:
        from localstack.runtime.server import twisted

        twisted.endpoints.TCP4ServerEndpoint = functools.partial(twisted.endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
        return twisted.TwistedRuntimeServer()


@hooks.on_infra_start()
def objects_below_tmpdir() -> None:
    """The stock folder is the same for every LocalStack: one that deletes a bucket takes the others' folder of its name away."""
    from localstack.services.s3 import provider

    provider.DEFAULT_S3_TMP_DIR = str(Path(tempfile.gettempdir()) / "localstack-s3-storage")


@aws_provider()
def apigatewayv2() -> Service:
    """HTTP APIs: moto's control plane and a data plane of ours."""
    from .http_api import HttpApiProvider, everything_to_moto

    return Service.for_provider(HttpApiProvider(), dispatch_table_factory=everything_to_moto)
