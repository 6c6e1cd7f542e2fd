"""What each role may do, and what it is denied: asked by a function that runs under the very role, where IAM is enforced.

The probe is a function of the tests' own with the role of a deployed one; it makes one call to S3 and tells what came of it.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator

import pytest
from api import Deployment
from botocore.exceptions import ClientError

pytestmark = pytest.mark.enforced

ROLES = ("ingest_http", "ingest_drop", "query", "builder", "gc")
SOURCE, INDEX = "sources/probe/1.0", "indices/probe/1.0"

# Role → (operation, key); everything that is not listed here is in DENIED below.
ALLOWED = {
    "ingest_http": [
        ("get", f"{SOURCE}/source.json"), ("get", "auth/keys/probe.json"), ("get", "drop-status/probe/1.0/x.json"),
        ("get", "drop/probe/1.0/x.csv"),
        ("put", f"{SOURCE}/source.json"), ("put", f"{SOURCE}/deleted.json"), ("put", f"{SOURCE}/timeline/000/1.parquet"),
        ("put", f"{SOURCE}/receipts/x.json"), ("put", f"{INDEX}/index.json"), ("put", f"{INDEX}/deleted.json"),
        ("put", "drop/probe/1.0/x.csv"), ("list", ""),
    ],
    "ingest_drop": [
        ("get", "drop/probe/1.0/x.csv"), ("get", f"{SOURCE}/source.json"), ("put", f"{SOURCE}/timeline/000/1.parquet"),
        ("put", f"{SOURCE}/receipts/x.json"), ("put", "drop-status/probe/1.0/x.json"), ("put", "drop-refused/probe/1.0/x.csv"),
        ("delete", "drop/probe/1.0/x.csv"), ("list", ""),
    ],
    "query": [
        ("get", f"{SOURCE}/timeline/000/1.parquet"), ("get", f"{INDEX}/segments/x.seg"), ("get", "auth/keys/probe.json"), ("list", ""),
    ],
    "builder": [
        ("get", f"{SOURCE}/timeline/000/1.parquet"), ("get", f"{INDEX}/index.json"), ("put", f"{SOURCE}/checkpoints/x.json"),
        ("put", f"{SOURCE}/checkpoint-data/x.parquet"), ("put", f"{INDEX}/manifests/x.json"), ("put", f"{INDEX}/segments/x.seg"),
        ("put", f"{INDEX}/catalogs/x.arrow"), ("list", ""),
    ],
    "gc": [
        ("get", f"{INDEX}/manifests/x.json"), ("put", f"{SOURCE}/boundaries/x.json"), ("put", f"{INDEX}/boundaries/x.json"),
        ("delete", f"{SOURCE}/timeline/000/1.parquet"), ("delete", f"{INDEX}/segments/x.seg"), ("list", ""),
    ],
}  # fmt: skip

DENIED = {
    "ingest_http": [
        ("delete", f"{SOURCE}/source.json"), ("delete", f"{SOURCE}/timeline/000/1.parquet"), ("delete", "drop/probe/1.0/x.csv"),
        ("delete", "auth/keys/probe.json"), ("put", "auth/keys/probe.json"), ("put", f"{INDEX}/manifests/x.json"),
        ("put", f"{SOURCE}/checkpoints/x.json"),
        ("put", f"{INDEX}/segments/x.seg"), ("put", "elsewhere/x"), ("get", "elsewhere/x"), ("get", "drop-refused/probe/1.0/x.csv"),
    ],
    "ingest_drop": [
        ("delete", f"{SOURCE}/timeline/000/1.parquet"), ("delete", "drop-refused/probe/1.0/x.csv"), ("delete", "drop-status/probe/1.0/x.json"),
        ("put", f"{SOURCE}/source.json"), ("put", "auth/keys/probe.json"), ("get", "auth/keys/probe.json"), ("put", "drop/probe/1.0/x.csv"),
        ("put", f"{INDEX}/index.json"), ("get", f"{INDEX}/segments/x.seg"),
    ],
    "query": [
        ("put", f"{SOURCE}/timeline/000/1.parquet"), ("put", f"{INDEX}/segments/x.seg"), ("put", "auth/keys/probe.json"),
        ("put", "drop/probe/1.0/x.csv"), ("delete", f"{INDEX}/segments/x.seg"), ("delete", f"{SOURCE}/source.json"),
        ("get", "drop/probe/1.0/x.csv"),
    ],
    "builder": [
        ("delete", f"{SOURCE}/timeline/000/1.parquet"), ("delete", f"{INDEX}/segments/x.seg"), ("delete", f"{INDEX}/manifests/x.json"),
        ("put", f"{SOURCE}/timeline/000/1.parquet"), ("put", f"{SOURCE}/source.json"), ("put", "auth/keys/probe.json"),
        ("get", "auth/keys/probe.json"), ("put", f"{SOURCE}/boundaries/x.json"), ("get", "drop/probe/1.0/x.csv"),
    ],
    "gc": [
        ("put", f"{SOURCE}/timeline/000/1.parquet"), ("put", f"{INDEX}/manifests/x.json"), ("delete", "auth/keys/probe.json"),
        ("delete", "drop/probe/1.0/x.csv"), ("delete", "elsewhere/x"), ("put", "auth/keys/probe.json"),
    ],
}  # fmt: skip

PROBE = '''
import json, os, urllib.request
import boto3, botocore
from botocore.config import Config

api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})

def client(plain):
    made = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=config)
    if plain:
        made.meta.events.register("before-sign.s3.*", lambda request, **_: request.headers.add_header("X-Tarn-Plain", "1"))
    return made

def ask(s3, bucket, operation, key):
    try:
        match operation:
            case "get": s3.get_object(Bucket=bucket, Key=key)
            case "put": s3.put_object(Bucket=bucket, Key=key, Body=b"x")
            case "delete": s3.delete_object(Bucket=bucket, Key=key)
            case "list": s3.list_objects_v2(Bucket=bucket)
        return "ok"
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]

while True:
    with urllib.request.urlopen(api + "next") as event:
        request, asked = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event)
    s3 = client(asked["plain"])
    body = json.dumps([ask(s3, asked["bucket"], *call) for call in asked["calls"]]).encode()
    urllib.request.urlopen(urllib.request.Request(api + request + "/response", data=body)).read()
'''


def package() -> bytes:
    """A bootstrap that runs the probe with this environment's Python, which has boto3."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in (("bootstrap", f'#!/bin/sh\nexec "{sys.executable}" "$(dirname "$0")/probe.py"\n'), ("probe.py", PROBE)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
    return out.getvalue()


@pytest.fixture(scope="module", params=ROLES)
def probe(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[tuple[str, object]]:
    """The role, and a call that asks under it."""
    role: str = request.param
    name = f"probe-{role.replace('_', '-')}"
    deployment.lambda_.create_function(
        FunctionName=name, Role=deployment.outputs["roles"][role], Runtime="provided.al2023", Handler="bootstrap", Timeout=30,
        Code={"ZipFile": package()},
    )  # fmt: skip
    deployment.lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def ask(calls: list[tuple[str, str]], plain: bool = False) -> dict[tuple[str, str], str]:
        # Something is there to be read, so that a denial cannot be mistaken for an absence.
        for operation, key in calls:
            if operation in ("get", "delete"):
                deployment.s3.put_object(Bucket=deployment.bucket, Key=key, Body=b"x")
        event = json.dumps({"bucket": deployment.bucket, "calls": calls, "plain": plain})
        answer = deployment.lambda_.invoke(FunctionName=name, Payload=event)
        result = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, result
        return dict(zip(calls, result))

    yield role, ask
    deployment.lambda_.delete_function(FunctionName=name)
    for prefix in ("sources/probe/", "indices/probe/", "auth/keys/probe", "drop", "elsewhere/"):
        for key in deployment.keys(prefix):
            if "probe" in key or key.startswith("elsewhere/"):
                deployment.s3.delete_object(Bucket=deployment.bucket, Key=key)


def test_the_role_may_do_its_work(probe) -> None:
    role, ask = probe
    assert ask(ALLOWED[role]) == {call: "ok" for call in ALLOWED[role]}


def test_the_role_is_denied_everything_else(probe) -> None:
    role, ask = probe
    assert ask(DENIED[role]) == {call: "AccessDenied" for call in DENIED[role]}


def test_only_gc_deletes_data(probe) -> None:
    role, ask = probe
    calls = [("delete", f"{root}/{name}") for root in (SOURCE, INDEX) for name in ("manifests/a", "timeline/a", "segments/a")]
    assert set(ask(calls).values()) == {"ok" if role == "gc" else "AccessDenied"}


def test_without_tls_nobody_is_answered(probe) -> None:
    """Not even the function's own role, for what it may do otherwise."""
    role, ask = probe
    call = ALLOWED[role][0]
    assert ask([call]) == {call: "ok"}
    assert ask([call], plain=True) == {call: "AccessDenied"}


def test_without_tls_no_queue_answers(deployment: Deployment) -> None:
    client = deployment.stack.client("sqs")
    client.meta.events.register("before-sign.sqs.*", lambda request, **_: request.headers.add_header("X-Tarn-Plain", "1"))
    with pytest.raises(ClientError) as refused:
        client.get_queue_attributes(QueueUrl=deployment.queues["drop"], AttributeNames=["All"])
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_a_wrong_secret_is_refused(deployment: Deployment) -> None:
    """Of a user: the emulator does not check the account's own key."""
    iam = deployment.stack.client("iam")
    iam.create_user(UserName="probe")
    key = iam.create_access_key(UserName="probe")["AccessKey"]["AccessKeyId"]
    try:
        client = deployment.stack.client("s3", aws_access_key_id=key, aws_secret_access_key="wrong")
        with pytest.raises(ClientError) as refused:
            client.list_objects_v2(Bucket=deployment.bucket)
        assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    finally:
        iam.delete_access_key(UserName="probe", AccessKeyId=key)
        iam.delete_user(UserName="probe")
