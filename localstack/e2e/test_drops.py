"""The drop folder: files become points once, or change nothing."""

import gzip
import json
from pathlib import Path

import pytest
import requests
from api import VERSION, Api, Deployment
from points import csv, ndjson, parquet, vector
from tarn_localstack.waiting import wait_for


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.ndjson", ndjson(range(100))),
        ("b.csv", csv(range(100))),
        ("c.parquet", parquet(range(100))),
        ("d.ndjson.gz", gzip.compress(ndjson(range(100)))),
    ],
)
def test_a_good_file_becomes_points(api: Api, deployment: Deployment, source: str, file: str, content: bytes) -> None:
    deployment.drop(source, file, content)
    drop = api.settled(source, file)
    assert drop["state"] == "committed", drop
    assert drop["rows"] == drop["rowsCommitted"] == 100
    assert api.exported(source) == list(range(100))
    assert api.search(source, 42) == [42]


def test_a_presigned_upload_lands_in_the_drop_folder(api: Api, source: str) -> None:
    content = ndjson(range(20))
    ticket = api.call("POST", f"/api/v1/uploads/{source}/{VERSION}", {"fileName": "big.ndjson", "bytes": len(content)}).json()
    assert requests.put(ticket["url"], data=content, headers=ticket["headers"], timeout=60).ok
    file = ticket["key"].removeprefix(f"drop/{source}/{VERSION}/")
    assert api.settled(source, file)["state"] == "committed"
    assert api.exported(source) == list(range(20))


def test_a_bad_file_changes_nothing_and_says_where(api: Api, deployment: Deployment, source: str) -> None:
    rows = ndjson(range(10)) + json.dumps({"id": "no number", "lang": "en", "vector": vector(1)}).encode() + b"\n"
    key = deployment.drop(source, "bad.ndjson", rows)
    drop = api.settled(source, "bad.ndjson")
    assert drop["state"] == "refused", drop
    assert drop["report"]["row"] == 11 and drop["report"]["column"] == "id", drop
    assert deployment.deltas(source) == []
    wait_for("the original to be moved", lambda: key not in deployment.keys(f"drop/{source}/"), 20)
    refused = deployment.keys(f"drop-refused/{source}/{VERSION}/")
    assert any(name.endswith("bad.ndjson") for name in refused) and any(name.endswith(".json") for name in refused), refused


def test_events_that_come_twice_commit_once(api: Api, deployment: Deployment, source: str) -> None:
    key = deployment.drop(source, "twice.ndjson", ndjson(range(50)))
    assert api.settled(source, "twice.ndjson")["state"] == "committed"
    before = deployment.deltas(source)
    head = deployment.s3.head_object(Bucket=deployment.bucket, Key=key)
    for _ in range(3):
        deployment.sqs.send_message(QueueUrl=deployment.queues["drop"], MessageBody=notification(deployment, key, head))
    deployment.all_events_taken()
    assert deployment.deltas(source) == before and len(before) == 1
    assert api.exported(source) == list(range(50))


def test_events_that_come_at_once_commit_once(api: Api, deployment: Deployment, source: str) -> None:
    """Several functions have the same file in hand."""
    key = deployment.drop(source, "race.ndjson", ndjson(range(5_000)))
    head = deployment.s3.head_object(Bucket=deployment.bucket, Key=key)
    for _ in range(4):
        deployment.sqs.send_message(QueueUrl=deployment.queues["drop"], MessageBody=notification(deployment, key, head))
    assert api.settled(source, "race.ndjson")["state"] == "committed"
    deployment.all_events_taken()
    drop = api.drops(source)["race.ndjson"]
    assert drop["state"] == "committed" and drop["rowsCommitted"] == 5_000, drop
    assert len(deployment.deltas(source)) == len(drop["sequences"]) == 1
    assert api.exported(source) == list(range(5_000))


def test_files_out_of_order_and_an_event_for_nothing(api: Api, deployment: Deployment, source: str) -> None:
    for number in (3, 1, 2):
        deployment.drop(source, f"{number}.ndjson", ndjson(range(number * 100, number * 100 + 10)))
    gone = {"ETag": '"0"', "ContentLength": 1}
    body = notification(deployment, f"drop/{source}/{VERSION}/gone.ndjson", gone)
    deployment.sqs.send_message(QueueUrl=deployment.queues["drop"], MessageBody=body)
    for number in (1, 2, 3):
        assert api.settled(source, f"{number}.ndjson")["state"] == "committed"
    assert api.exported(source) == [n * 100 + i for n in (1, 2, 3) for i in range(10)]
    # There is nothing to be done about a file that is gone.
    deployment.all_events_taken()
    assert deployment.waiting("drop_dead") == 0


def test_a_hostile_key_hurts_nobody(api: Api, deployment: Deployment, source: str) -> None:
    keys = set(deployment.keys("auth/"))
    hostile = {f"drop/{source}/{VERSION}/../../auth/keys/x.json", "drop/../x.ndjson", f"drop/{source}/%2e%2e/x.ndjson", "drop/x"}
    for key in hostile:
        deployment.s3.put_object(Bucket=deployment.bucket, Key=key, Body=ndjson(range(3)))
    assert hostile <= set(deployment.keys("")), "nobody has made paths of them on the way"
    deployment.all_events_taken()
    assert deployment.waiting("drop_dead") == 0
    assert set(deployment.keys("auth/")) == keys
    assert deployment.deltas(source) == []
    deployment.drop(source, "after.ndjson", ndjson(range(5)))
    assert api.settled(source, "after.ndjson")["state"] == "committed"
    assert api.exported(source) == list(range(5))


@pytest.mark.slow
def test_a_file_of_200_mb(api: Api, deployment: Deployment, source: str, tmp_path: Path) -> None:
    large(api, deployment, source, tmp_path, megabytes=200, seconds=540)


@pytest.mark.once
def test_a_file_of_some_megabytes(api: Api, deployment: Deployment, source: str, tmp_path: Path) -> None:
    large(api, deployment, source, tmp_path, megabytes=8, seconds=120)


def large(api: Api, deployment: Deployment, source: str, folder: Path, megabytes: int, seconds: float) -> None:
    file, rows = folder / "large.ndjson", 0
    vectors = [json.dumps(vector(number)) for number in range(2_000)]
    with file.open("w") as out:
        while out.tell() < megabytes << 20:
            out.writelines(f'{{"id": {rows + i}, "lang": "en", "vector": {vectors[(rows + i) % 2_000]}}}\n' for i in range(2_000))
            rows += 2_000
    deployment.s3.upload_file(str(file), deployment.bucket, f"drop/{source}/{VERSION}/large.ndjson")
    drop = api.settled(source, "large.ndjson", seconds)
    assert drop["state"] == "committed" and drop["rowsCommitted"] == rows, drop
    deployment.build()
    assert api.count(source) == rows
    # More than a function may send, and it says so.
    export = f"/api/v1/data-sources/{source}/{VERSION}/export"
    refused = api.call("GET", export, expect=413, headers={"Accept-Encoding": "identity"}).json()
    assert "gzip" in refused["errorMessages"][0], refused


def notification(deployment: Deployment, key: str, head: dict) -> str:
    """What S3 puts into the queue."""
    described = {"key": key.replace(" ", "+"), "size": head["ContentLength"], "eTag": head["ETag"].strip('"'), "sequencer": "0"}
    if version := head.get("VersionId"):
        described["versionId"] = version
    record = {
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": deployment.stack.region, "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "s3": {"bucket": {"name": deployment.bucket, "arn": f"arn:aws:s3:::{deployment.bucket}"}, "object": described},
    }  # fmt: skip
    return json.dumps({"Records": [record]})
