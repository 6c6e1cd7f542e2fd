"""The provider stand-in: what it plans, what it refuses, and that it can make what the module asks for."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from tarn_localstack.provider.resource import Aws, NotLoopback, given, is_gone, number, same_json
from tarn_localstack.provider.resources import RESOURCES
from tarn_localstack.provider.schema import SCHEMA, message, with_unknowns, without_unknowns
from tarn_localstack.provider.sent import UNSENT, Watched, unsent
from tarn_localstack.provider.server import plan
from tf.types import Unknown

INFRA = Path(__file__).resolve().parents[2] / "infra"
# Kinds that only accounts of one's own can use: a certificate and a zone.
SCHEMA_ONLY = {"aws_apigatewayv2_domain_name", "aws_apigatewayv2_api_mapping", "aws_route53_record"}


def of_module() -> set[str]:
    return {kind for file in INFRA.glob("*.tf") for kind in re.findall(r'^resource "(\w+)"', file.read_text(), re.MULTILINE)}


def test_every_kind_of_the_module_is_in_the_schema_and_can_be_made() -> None:
    assert of_module() <= set(SCHEMA["resources"])
    assert of_module() - set(RESOURCES) <= SCHEMA_ONLY


def test_nothing_is_there_that_the_module_does_not_use() -> None:
    assert set(RESOURCES) <= of_module()


def test_every_schema_can_be_sent() -> None:
    for block in [*SCHEMA["resources"].values(), *SCHEMA["data_sources"].values(), SCHEMA["provider"]]:
        assert message(block).SerializeToString()


@pytest.mark.parametrize("kind", sorted(RESOURCES))
def test_what_forces_replacement_is_an_attribute(kind: str) -> None:
    assert RESOURCES[kind].replaced_by | RESOURCES[kind].changes <= set(SCHEMA["resources"][kind]["attributes"])


def test_computed_attributes_are_unknown_before_and_null_after() -> None:
    block = SCHEMA["resources"]["aws_sqs_queue"]
    planned, replaced = plan("aws_sqs_queue", None, {name: None for name in block["attributes"]} | {"name": "q", "timeouts": None})
    assert replaced == [] and planned["arn"] is Unknown and planned["name"] == "q"
    assert without_unknowns(block, planned)["arn"] is None


def test_unknowns_reach_nested_blocks() -> None:
    block = SCHEMA["resources"]["aws_s3_bucket_notification"]
    value = {"bucket": "b", "queue": [{"queue_arn": "a", "events": [], "id": None}]}
    assert with_unknowns(block, value)["queue"][0]["id"] is Unknown


def test_a_change_is_an_update_or_a_replacement() -> None:
    prior = {"name": "q", "visibility_timeout_seconds": 1, "arn": "arn", "id": "q"}
    assert plan("aws_sqs_queue", dict(prior), dict(prior)) == (prior, [])
    planned, replaced = plan("aws_sqs_queue", dict(prior), prior | {"visibility_timeout_seconds": 2})
    assert replaced == [] and planned["arn"] == "arn"
    planned, replaced = plan("aws_sqs_queue", dict(prior), prior | {"name": "other"})
    assert replaced == ["name"] and planned["arn"] is Unknown


@pytest.mark.parametrize("endpoint", [None, "https://sqs.us-east-1.amazonaws.com", "http://127.0.0.1.example.org", "http://10.0.0.1"])
def test_only_loopback_is_served(monkeypatch: pytest.MonkeyPatch, endpoint: str | None) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(NotLoopback):
        Aws.from_settings(None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert Aws.from_settings("eu-central-1").region == "eu-central-1"


def test_what_a_resource_never_looks_at_was_not_sent() -> None:
    block = SCHEMA["resources"]["aws_s3_bucket_lifecycle_configuration"]
    rule = {"id": "a", "status": "Enabled", "prefix": None, "filter": [{"prefix": "x/", "object_size_less_than": 5}]}
    value = Watched(block, {"bucket": "b", "rule": [rule], "id": Unknown})
    assert unsent(block, None, value) == ["bucket", "rule"]
    assert value["bucket"] == "b" and value["rule"][0].get("filter")[0]["prefix"] == "x/"
    assert unsent(block, None, value) == ["rule.filter.object_size_less_than", "rule.id", "rule.status"]
    # An update sends what has changed.
    before = {"bucket": "b", "rule": [rule | {"status": "Disabled"}]}
    assert unsent(block, before, value) == ["rule.status"]


def test_false_says_something_and_null_does_not() -> None:
    block = SCHEMA["resources"]["aws_sqs_queue"]
    assert unsent(block, None, Watched(block, {"fifo_queue": False, "name": None, "url": Unknown, "policy": ""})) == ["fifo_queue"]


def test_what_is_not_sent_is_in_the_readme() -> None:
    text = (INFRA.parent / "localstack" / "README.md").read_text()
    for kind, resource in RESOURCES.items():
        assert resource.unsent <= set(SCHEMA["resources"][kind]["attributes"]) | set(SCHEMA["resources"][kind].get("blocks", {}))
        for name in resource.unsent:
            assert f"`{kind}.{name}`" in text
    assert "tags" in UNSENT and "Tags are not sent" in text


def test_small_words() -> None:
    assert given(a=1, b=None, c="", d=[], e=Unknown, f=0, g=False) == {"a": 1, "f": 0, "g": False}
    assert number("3") == 3 and isinstance(number(3.0), int) and number(0.5) == 0.5 and number(None) is None
    assert same_json('{"a": 1, "b": 2}', '{"b":2,"a":1}') and not same_json("{}", "[]") and not same_json("no", "{}")


def test_services_words_for_gone() -> None:
    def error(code: str, status: int = 400) -> Exception:
        made = Exception(code)
        made.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]
        return made

    for code in ("NoSuchBucket", "ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "StateMachineDoesNotExist"):
        assert is_gone(error(code))
    assert is_gone(error("x", 404)) and not is_gone(error("AccessDenied", 403)) and not is_gone(ValueError("x"))


class FilledWhileEmptied:
    """A bucket into which somebody writes once more, while it is being emptied."""

    def __init__(self) -> None:
        self.contents = [{"Key": "a", "VersionId": "1"}]
        self.late = [{"Key": "b", "VersionId": "2"}]
        self.gone = False

    def get_paginator(self, _name: str) -> "FilledWhileEmptied":
        return self

    def paginate(self, Bucket: str) -> list[dict]:
        return [{"Versions": list(self.contents)}]

    def delete_objects(self, Bucket: str, Delete: dict) -> None:
        self.contents = [entry for entry in self.contents if entry not in Delete["Objects"]] + self.late
        self.late = []

    def delete_bucket(self, Bucket: str) -> None:
        if self.contents:
            raise ClientError({"Error": {"Code": "BucketNotEmpty"}}, "DeleteBucket")
        self.gone = True


def test_a_bucket_that_is_filled_while_it_is_emptied_goes_all_the_same() -> None:
    s3 = FilledWhileEmptied()
    RESOURCES["aws_s3_bucket"].delete(SimpleNamespace(s3=s3), {"bucket": "b", "force_destroy": True})
    assert s3.gone and not s3.contents
    kept = FilledWhileEmptied()
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        RESOURCES["aws_s3_bucket"].delete(SimpleNamespace(s3=kept), {"bucket": "b", "force_destroy": False})
    assert kept.contents
