"""What the tests say to a deployment: over HTTP as users do, and to AWS as operators do."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from points import DIMENSION, vector
from tarn_localstack import processes
from tarn_localstack.stack import Stack
from tarn_localstack.waiting import wait_for

VERSION = "1.0"


class Api:
    """The HTTP API. Anything but the expected status is an error that shows the answer."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._session = requests.Session()
        self._session.headers["X-Api-Key"] = key

    def again(self) -> Api:
        """The same with connections of its own, for another thread."""
        return Api(self.url, self.key)

    def call(self, method: str, path: str, body: Any = None, expect: int = 200, **arguments: Any) -> requests.Response:
        answer = self._session.request(method, self.url + path, json=body, timeout=60, **arguments)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code}, not {expect}: {answer.text[:1000]}"
        return answer

    def create_source(self, name: str) -> None:
        definition = {
            "vectorDimension": DIMENSION,
            "attributeValueTypes": {"id": "Int64", "lang": "String"},
            "permanentAttributes": ["id"],
        }
        answer = self._session.put(f"{self.url}/api/v1/data-sources/{name}/{VERSION}", json=definition, timeout=60)
        assert answer.ok, answer.text

    def create_index(self, name: str, source: str, algorithm: str = "FaissIndex.L2", shards: int = 1) -> None:
        definition: dict[str, Any] = {
            "dataSourceId": {"name": source, "version": VERSION},
            "indexAlgorithm": {"type": algorithm},
            "idAttributes": ["id"],
        }
        if shards > 1:
            definition["shardsById"] = {
                str(shard): {"shardsByAttributeKey": {"id": {"numberOfShards": shards, "shardValues": [str(shard)]}}}
                for shard in range(shards)
            }
        answer = self._session.put(f"{self.url}/api/v1/indices/{name}/{VERSION}", json=definition, timeout=60)
        assert answer.ok, answer.text

    def upload(self, source: str, points: list[dict[str, Any]], **headers: str) -> requests.Response:
        return self.call("POST", f"/api/v1/upload/{source}/{VERSION}", points, headers=headers)

    def search(self, index: str, number: int, k: int = 1) -> list[int]:
        """The ids of the points nearest to the point of a number."""
        query = {"queryVectors": [{"isSparse": False, "coordinates": vector(number)}], "k": k, "retrieveVectors": False}
        found = self.call("POST", f"/api/v1/search/{index}/{VERSION}", query).json()[0]["nearestDataPoints"]
        return [next(a["value"]["int64"] for a in point["attributes"] if a["key"] == "id") for point in found]

    def count(self, index: str) -> int:
        return int(self.call("GET", f"/api/v1/info/{index}/{VERSION}").json()["dataPointsCount"])

    def exported(self, source: str) -> list[int]:
        """The ids of all live points, sorted: a point that was committed twice would still be one; a lost one is missing."""
        lines = self.call("GET", f"/api/v1/data-sources/{source}/{VERSION}/export").text.splitlines()
        return sorted(_id(json.loads(line)) for line in lines)

    def drops(self, source: str) -> dict[str, dict[str, Any]]:
        """File name → what became of it."""
        drops = self.call("GET", f"/api/v1/drops/{source}/{VERSION}").json()["drops"]
        return {drop["file"]: drop for drop in drops}

    def settled(self, source: str, file: str, seconds: float = 90) -> dict[str, Any]:
        """A dropped file's entry once it is committed or refused."""

        def look() -> dict[str, Any] | None:
            drop = self.drops(source).get(file)
            return drop if drop and drop["state"] in ("committed", "refused") else None

        return wait_for(f"the end of {file}", look, seconds, every=0.5)  # type: ignore[return-value]


def _id(point: dict[str, Any]) -> int:
    if "attributes" in point:
        return int(next(a["value"]["int64"] for a in point["attributes"] if a["key"] == "id"))
    return int(point["id"])


@dataclass
class Deployment:
    """The outputs of the module, with the clients they are for."""

    stack: Stack
    outputs: dict[str, Any]

    def __post_init__(self) -> None:
        self.url = self.stack.api_url(self.outputs["api_id"])
        self.bucket: str = self.outputs["bucket"]
        self.functions: dict[str, str] = self.outputs["functions"]
        self.queues: dict[str, str] = self.outputs["queues"]
        self.s3 = self.stack.client("s3")
        self.sqs = self.stack.client("sqs")
        self.lambda_ = self.stack.client("lambda")

    def create_key(self, *grants: str) -> str:
        """An API key, made as `tarn keys create` makes one: the bucket gets its hash and what it permits."""
        identifier = secrets.token_hex(8)
        key = f"tarn_{identifier}_{secrets.token_hex(32)}"
        record = {
            "format": 1,
            "id": identifier,
            "name": "e2e",
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "grants": [dict(zip(("scope", "pattern"), grant.split(":"))) for grant in grants],
            "createdMs": 0,
        }
        self.s3.put_object(Bucket=self.bucket, Key=f"auth/keys/{identifier}.json", Body=json.dumps(record))
        return key

    def logged(self, function: str) -> str:
        """Everything that a function has logged."""
        pages = self.stack.client("logs").get_paginator("filter_log_events")
        group = f"/aws/lambda/{self.functions[function]}"
        return "\n".join(event["message"] for page in pages.paginate(logGroupName=group) for event in page["events"])

    def invoke(self, function: str, event: dict[str, Any]) -> tuple[Any, bool]:
        """The result, and whether it is an error."""
        answer = self.lambda_.invoke(FunctionName=self.functions[function], Payload=json.dumps(event))
        return json.loads(answer["Payload"].read() or b"null"), "FunctionError" in answer

    def build(self) -> None:
        result, failed = self.invoke("builder", {"task": "run"})
        assert not failed, result

    def drop(self, source: str, file: str, content: bytes) -> str:
        key = f"drop/{source}/{VERSION}/{file}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return key

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def deltas(self, source: str) -> list[str]:
        return self.keys(f"sources/{source}/{VERSION}/timeline/")

    def processes(self, function: str) -> list[int]:
        return processes.of_function(self.functions[function], self.stack.endpoint)

    def kill(self, function: str) -> list[int]:
        """Kills whoever runs a function, as a machine that fails would: those that were killed."""
        killed = []
        for pid in self.processes(function):
            try:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            except ProcessLookupError:
                continue
        return killed

    def waiting(self, queue: str) -> int:
        """Messages in a queue, those in flight included."""
        return sum(self._messages(queue).values())

    def _messages(self, queue: str) -> dict[str, int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queues[queue], AttributeNames=names)["Attributes"]
        return {name: int(found[name]) for name in names}

    def all_events_taken(self) -> None:
        """Waits until the function has done with every event of the drop folder that there was."""
        wait_for("all events to be taken", lambda: self.waiting("drop") == 0, 60)

    @contextmanager
    def without_debounced_builds(self) -> Iterator[None]:
        """For a while, nothing is built but what the test asks for; the events of new deltas wait in their queue."""
        mapping = self.lambda_.list_event_source_mappings(FunctionName=self.functions["builder"])["EventSourceMappings"][0]["UUID"]

        def switch(enabled: bool, state: str) -> None:
            self.lambda_.update_event_source_mapping(UUID=mapping, Enabled=enabled)
            wait_for(
                f"the builder's events to be {state}",
                lambda: self.lambda_.get_event_source_mapping(UUID=mapping)["State"] == state,
                60,
            )

        switch(False, "Disabled")
        try:
            in_flight = "ApproximateNumberOfMessagesNotVisible"
            wait_for("the last such build to end", lambda: self._messages("build")[in_flight] == 0, 60)
            yield
        finally:
            switch(True, "Enabled")

    def redrive(self) -> None:
        """Moves the dead letters of the drop queue back into it."""
        if self.stack.emulator == "ministack":  # It has no message-moving tasks.
            while messages := self._dead_letters():
                for message in messages:
                    self.sqs.send_message(QueueUrl=self.queues["drop"], MessageBody=message["Body"])
                    self._throw_away(message)
            return
        arn = self.sqs.get_queue_attributes(QueueUrl=self.queues["drop_dead"], AttributeNames=["QueueArn"])
        self.sqs.start_message_move_task(SourceArn=arn["Attributes"]["QueueArn"])

    def take_out_dead_letters(self) -> None:
        """The operator's other choice: look at them, and throw them away."""
        for message in self._dead_letters():
            self._throw_away(message)

    def _dead_letters(self) -> list[dict[str, Any]]:
        return self.sqs.receive_message(QueueUrl=self.queues["drop_dead"], MaxNumberOfMessages=10).get("Messages", [])

    def _throw_away(self, message: dict[str, Any]) -> None:
        self.sqs.delete_message(QueueUrl=self.queues["drop_dead"], ReceiptHandle=message["ReceiptHandle"])

    @contextmanager
    def impatient(self, queue: str, seconds: int) -> Iterator[None]:
        """For a while, a failed message comes back after so few seconds rather than after six time-outs."""
        url = self.queues[queue]
        names = ["VisibilityTimeout"]
        before = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})
        try:
            yield
        finally:
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes=before)

    @contextmanager
    def environment(self, function: str, **changes: str) -> Iterator[None]:
        """For a while, a function with other settings, as after a bad deployment."""
        name = self.functions[function]
        before = self.lambda_.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        self._configure(name, before | changes)
        try:
            yield
        finally:
            self._configure(name, before)

    def _configure(self, name: str, variables: dict[str, str]) -> None:
        self.lambda_.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        self.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
