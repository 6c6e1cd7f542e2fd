"""What a kind of resource is to the stand-in: four calls and a few words."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tf.types import Unknown

from .schema import Value

# The account of both emulators.
ACCOUNT = "000000000000"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotLoopback(ValueError):
    """The endpoint is missing or might be a real one."""


@dataclass
class Aws:
    """The emulator, seen from the resources."""

    endpoint: str
    region: str

    @staticmethod
    def from_settings(region: str | None) -> Aws:
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if urlsplit(endpoint).hostname not in _LOOPBACK:
            raise NotLoopback("this is a stand-in for tests: AWS_ENDPOINT_URL has to name a loopback address")
        return Aws(endpoint, region or os.environ.get("AWS_REGION") or "us-east-1")

    def __getattr__(self, service: str) -> Any:
        """A client, as in `aws.s3`; a trailing underscore keeps keywords apart (`aws.lambda_`)."""
        import boto3
        from botocore.config import Config

        service = service.rstrip("_")
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}, read_timeout=120)
        client = boto3.client(service, endpoint_url=self.endpoint, region_name=self.region, config=config)
        setattr(self, service, client)
        return client

    def arn(self, service: str, rest: str) -> str:
        return f"arn:aws:{service}:{self.region}:{ACCOUNT}:{rest}"


class Resource:
    """One kind of resource. `create` and `update` fill the plan's unknowns in; `read` gives None for what is gone."""

    kind: ClassVar[str]
    # Attributes whose change needs a new resource.
    replaced_by: ClassVar[frozenset[str]] = frozenset()
    # Attributes that any update may change.
    changes: ClassVar[frozenset[str]] = frozenset()
    # Arguments that are taken and not sent; all others are an error. The README lists them.
    unsent: ClassVar[frozenset[str]] = frozenset()

    def create(self, aws: Aws, plan: Value) -> Value:
        raise NotImplementedError

    def read(self, aws: Aws, state: Value) -> Value | None:
        raise NotImplementedError

    def update(self, aws: Aws, state: Value, plan: Value) -> Value:
        """For everything that is written as a whole, an update is a creation."""
        return self.create(aws, plan)

    def delete(self, aws: Aws, state: Value) -> None:
        raise NotImplementedError


# Errors that mean: it is not there. Services do not agree on a word.
GONE = (
    "NoSuch", "NotFound", "NonExistent", "ResourceNotFound", "DoesNotExist", "StateMachineDoesNotExist", "404",
)  # fmt: skip


def is_gone(error: Exception) -> bool:
    response = getattr(error, "response", {})
    code = str(response.get("Error", {}).get("Code", ""))
    missing = response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404 or any(word in code for word in GONE)
    return missing or "does not exist" in str(error)


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that say anything: not null, not unknown, not empty."""
    return {name: value for name, value in arguments.items() if value is not Unknown and value not in (None, "", [], {})}


def first(value: Value, block: str) -> Value | None:
    """The one block of a name, if it is there."""
    items = value.get(block)
    return items[0] if isinstance(items, list) and items else None


def number(value: Any) -> int | float | None:
    """Terraform's numbers arrive as floats or text; AWS wants whole ones whole."""
    if value is None or value is Unknown:
        return None
    as_float = float(value)
    return int(as_float) if as_float == int(as_float) else as_float


def tags(plan: Value) -> dict[str, str]:
    return plan.get("tags") or {}


def same_json(left: str | None, right: str | None) -> bool:
    """Whether two documents say the same; services rewrite them."""
    try:
        return json.loads(left or "null") == json.loads(right or "null")
    except ValueError:
        return False
