"""What each role may do, and what it is denied: asked by a function that runs under the very role, where IAM is enforced.

The probe is a function of the tests' own with the role of a deployed one. It makes the calls that it is told to make and says
what came of each. Every role is asked for every operation on every kind of object, queue and function there is: what is not
in `ALLOWED` has to be denied.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator

import pytest
from api import Deployment
from botocore.exceptions import ClientError

pytestmark = pytest.mark.enforced

ROLES = ("ingest_http", "ingest_drop", "query", "builder", "gc")


def objects(root: str, *names: str) -> set[str]:
    return {f"{root}/{name}" for name in names}


# One key of each kind that the store has, and one of no kind.
SOURCE = objects(
    "sources/probe/1.0",
    "source.json", "deleted.json", "timeline/000/1.parquet", "receipts/x.json", "checkpoints/x.json", "checkpoint-data/x.parquet",
    "boundaries/x.json",
)  # fmt: skip
INDEX = objects(
    "indices/probe/1.0",
    "index.json", "deleted.json", "manifests/x.json", "segments/x.seg", "catalogs/x.arrow", "builds/x/000000.json", "boundaries/x.json",
    "hint",
)  # fmt: skip
KEY, REFUSED, STATUS = "auth/keys/probe.json", "drop-refused/probe/1.0/x/a.csv", "drop-status/probe/1.0/x.json"
# Below drop/ and no dropped file's key: the deployed function leaves it where it is.
DROP = "drop/probe"
KEYS = SOURCE | INDEX | {KEY, REFUSED, STATUS, DROP, "elsewhere/probe"}
SOME = {"sources/probe/1.0/timeline/000/1.parquet", "indices/probe/1.0/segments/x.seg", KEY, REFUSED, STATUS, DROP}

# Operation → whatever it may be asked of.
TARGETS: dict[str, set[str]] = {
    "get": KEYS,
    "put": KEYS,
    "delete": KEYS,
    "get-version": SOME,
    "delete-version": SOME,
    "put-parts": SOME,
    "bucket": {"list", "list-versions", "get-policy", "get-lifecycle", "delete"},
    "receive": {"drop", "drop_dead", "build", "build_dead"},
    "send": {"drop", "drop_dead", "build", "build_dead"},
    "invoke": set(ROLES),
}
# Role → operation → of what. Whoever reads an object must be able to list: without, S3 does not say whether it exists.
ALLOWED: dict[str, dict[str, set[str]]] = {
    "ingest_http": {
        "get": SOURCE | INDEX | {KEY, DROP, STATUS},
        "put": objects("sources/probe/1.0", "source.json", "deleted.json", "timeline/000/1.parquet", "receipts/x.json")
        | objects("indices/probe/1.0", "index.json", "deleted.json")
        | {DROP},
        "put-parts": {"sources/probe/1.0/timeline/000/1.parquet", DROP},
        "bucket": {"list"},
    },
    "ingest_drop": {
        "get": SOURCE | {DROP, STATUS, REFUSED},
        "get-version": {DROP},
        "put": objects("sources/probe/1.0", "timeline/000/1.parquet") | {STATUS, REFUSED},
        "put-parts": {"sources/probe/1.0/timeline/000/1.parquet", STATUS, REFUSED},
        "delete": {DROP},
        "bucket": {"list"},
        "receive": {"drop"},
    },
    "query": {"get": SOURCE | INDEX | {KEY}, "bucket": {"list"}, "invoke": {"query"}},
    "builder": {
        "get": SOURCE | INDEX,
        "put": objects("sources/probe/1.0", "checkpoints/x.json", "checkpoint-data/x.parquet")
        | objects("indices/probe/1.0", "manifests/x.json", "segments/x.seg", "catalogs/x.arrow", "builds/x/000000.json", "hint"),
        "put-parts": {"indices/probe/1.0/segments/x.seg"},
        "bucket": {"list"},
        "receive": {"build"},
    },
    "gc": {
        "get": SOURCE | INDEX,
        "put": {"sources/probe/1.0/boundaries/x.json", "indices/probe/1.0/boundaries/x.json", "indices/probe/1.0/hint"},
        "delete": SOURCE | INDEX,
        "bucket": {"list"},
    },
}  # fmt: skip

PROBE = '''
import json, os, urllib.request
import boto3, botocore
from botocore.config import Config

api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})

def client(service, plain):
    made = boto3.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=config)
    if plain:
        made.meta.events.register("before-sign.*.*", lambda request, **_: request.headers.add_header("X-Tarn-Plain", "1"))
    return made

def ask(clients, bucket, operation, target, detail):
    s3, sqs, functions = clients
    try:
        match operation, target:
            case "get", key: s3.get_object(Bucket=bucket, Key=key)
            case "put", key: s3.put_object(Bucket=bucket, Key=key, Body=b"x")
            case "delete", key: s3.delete_object(Bucket=bucket, Key=key)
            case "get-version", key: s3.get_object(Bucket=bucket, Key=key, VersionId=detail)
            case "delete-version", key: s3.delete_object(Bucket=bucket, Key=key, VersionId=detail)
            case "put-parts", key:
                begun = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
                s3.upload_part(Bucket=bucket, Key=key, UploadId=begun, PartNumber=1, Body=b"x")
                s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=begun)
            case "bucket", "list": s3.list_objects_v2(Bucket=bucket)
            case "bucket", "list-versions": s3.list_object_versions(Bucket=bucket)
            case "bucket", "get-policy": s3.get_bucket_policy(Bucket=bucket)
            case "bucket", "get-lifecycle": s3.get_bucket_lifecycle_configuration(Bucket=bucket)
            case "bucket", "delete": s3.delete_bucket(Bucket=bucket)
            case "receive", _: sqs.receive_message(QueueUrl=detail, VisibilityTimeout=0, WaitTimeSeconds=0)
            case "send", _: sqs.send_message(QueueUrl=detail, MessageBody="{}")
            case "invoke", _: functions.invoke(FunctionName=detail, InvocationType="DryRun")
        return "ok"
    except botocore.exceptions.ClientError as error:
        # Services do not agree on the end of the word.
        return error.response["Error"]["Code"].removesuffix("Exception")

made = {plain: [client(service, plain) for service in ("s3", "sqs", "lambda")] for plain in (False, True)}
while True:
    with urllib.request.urlopen(api + "next") as event:
        request, asked = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event)
    said = {target: ask(made[asked["plain"]], asked["bucket"], asked["operation"], target, detail) for target, detail in asked["targets"].items()}
    urllib.request.urlopen(urllib.request.Request(api + request + "/response", data=json.dumps(said).encode())).read()
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


Ask = Callable[..., dict[str, str]]


@pytest.fixture(scope="module", params=ROLES)
def probe(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[tuple[str, Ask]]:
    """The role, and a call that asks under it: target → what came of it."""
    role: str = request.param
    name = f"probe-{role.replace('_', '-')}"
    deployment.lambda_.create_function(
        FunctionName=name, Role=deployment.outputs["roles"][role], Runtime="provided.al2023", Handler="bootstrap", Timeout=30,
        Code={"ZipFile": package()},
    )  # fmt: skip
    deployment.lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def details(operation: str, targets: set[str]) -> dict[str, str]:
        """What a call needs besides. Something is there to be read, so that a denial cannot be mistaken for an absence."""
        if operation in ("receive", "send"):
            return {queue: deployment.queues[queue] for queue in targets}
        if operation == "invoke":
            return {function: deployment.functions[function] for function in targets}
        if operation in ("put", "put-parts", "bucket"):
            return dict.fromkeys(targets, "")
        put = {key: deployment.s3.put_object(Bucket=deployment.bucket, Key=key, Body=b"x") for key in targets}
        return {key: answer["VersionId"] for key, answer in put.items()}

    def ask(operation: str, targets: set[str], plain: bool = False) -> dict[str, str]:
        event = {"bucket": deployment.bucket, "operation": operation, "targets": details(operation, targets), "plain": plain}
        answer = deployment.lambda_.invoke(FunctionName=name, Payload=json.dumps(event))
        said = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, said
        return said

    yield role, ask
    deployment.lambda_.delete_function(FunctionName=name)
    for key in deployment.keys(""):
        if "probe" in key:
            deployment.s3.delete_object(Bucket=deployment.bucket, Key=key)


def test_what_is_allowed_is_asked_for() -> None:
    for role in ROLES:
        assert all(targets <= TARGETS[operation] for operation, targets in ALLOWED[role].items()), role


@pytest.mark.parametrize("operation", TARGETS)
def test_a_role_may_do_its_work_and_nothing_else(probe: tuple[str, Ask], operation: str) -> None:
    role, ask = probe
    allowed = ALLOWED[role].get(operation, set())
    assert ask(operation, TARGETS[operation]) == {
        target: "ok" if target in allowed else "AccessDenied" for target in TARGETS[operation]
    }


def test_without_tls_nobody_is_answered(probe: tuple[str, Ask]) -> None:
    """Not even the function's own role, for what it may do otherwise."""
    _, ask = probe
    sources = {"sources/probe/1.0/source.json"}
    assert set(ask("get", sources).values()) == {"ok"}
    assert set(ask("get", sources, plain=True).values()) == {"AccessDenied"}


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
