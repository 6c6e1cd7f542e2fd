"""LocalStack's executor interface over `functions.Environment`."""

from __future__ import annotations

import os
from pathlib import Path

from localstack import config
from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from ..functions.environment import Environment, Function
from ..functions.sandbox import Limits, make_executable


class ProcessExecutor(RuntimeExecutor):
    """One per execution environment that LocalStack asks for; it starts as many as there are invocations at once."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002: the interface's name
        super().__init__(id=id, function_version=function_version)
        self._environment: Environment | None = None

    def start(self, env_vars: dict[str, str]) -> None:
        settings = {name: str(value) for name, value in env_vars.items() if value is not None}
        self._environment = Environment(_function(self.function_version), settings)
        if error := self._environment.start():
            raise StatusErrorException("the function did not start", payload=error.body)

    def stop(self) -> None:
        if self._environment:
            self._environment.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        assert self._environment is not None, "started before"
        request_id = payload["invoke-id"]
        outcome, log = self._environment.invoke(request_id, payload["payload"].encode(), payload.get("trace-id") or "")
        return InvocationResult(request_id, outcome.body, is_error=outcome.is_error, logs=log)

    def get_logs(self) -> str:
        return ""

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        code = function_version.config.code
        if code:
            code.prepare_for_execution()
            make_executable(Path(code.get_unzipped_code_location()))

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """LocalStack removes the code with the version."""

    @classmethod
    def validate_environment(cls) -> bool:
        return True


def _function(version: FunctionVersion) -> Function:
    configuration = version.config
    storage = getattr(configuration, "ephemeral_storage", None)
    limit_memory = os.environ.get("TARN_LOCALSTACK_LIMIT_MEMORY") == "1"
    return Function(
        name=version.id.function_name,
        arn=version.id.qualified_arn(),
        code=Path(configuration.code.get_unzipped_code_location()),
        timeout_s=float(configuration.timeout),
        memory_mib=int(configuration.memory_size),
        limits=Limits(storage.size if storage else 512, int(configuration.memory_size) if limit_memory else None),
        version=version.id.qualifier,
    )
