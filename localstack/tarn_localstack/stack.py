"""A running emulator: where it answers, with which credentials, and which process it is.

`up` writes one to `{state}/stack.json`; everything else reads it. The state folder holds all that a run leaves behind.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "stack.json"


class NoStack(RuntimeError):
    """Nothing is up in this state folder."""


@dataclass(frozen=True)
class Stack:
    emulator: str
    endpoint: str
    access_key: str
    secret_key: str
    pid: int
    # When the process was started, in clock ticks after boot: a pid alone may have been given to another process since.
    started: int
    region: str = "us-east-1"

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    def api_url(self, api_id: str) -> str:
        """Where an HTTP API answers; real ones have a host name of their own."""
        if self.emulator == "localstack":
            return f"{self.endpoint}/_aws/http-api/{api_id}"
        return f"{self.endpoint}/_aws/execute-api/{api_id}/$default"

    def environment(self) -> dict[str, str]:
        """For Terraform, the AWS CLI and boto3."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **overrides: Any) -> Any:
        """A boto3 client; `overrides` may give other credentials."""
        import boto3
        from botocore.config import Config

        settings: dict[str, Any] = {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "config": Config(s3={"addressing_style": "path"}, read_timeout=120, retries={"total_max_attempts": 1}),
        }
        return boto3.client(service, **{**settings, **overrides})

    def save(self, state: Path) -> None:
        (state / FILE).write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(state: Path) -> Stack:
        try:
            return Stack(**json.loads((state / FILE).read_text()))
        except FileNotFoundError:
            raise NoStack(f"nothing is up in {state}: run `up` first") from None
