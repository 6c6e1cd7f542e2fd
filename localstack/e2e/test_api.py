"""Definitions, uploads and searches through API Gateway."""

import functools
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from api import VERSION, Api, Deployment
from points import point, points, vector
from vektonn import Vektonn
from vektonn.dtos import Attribute, AttributeValue, InputDataPoint, SearchQuery, Vector


def keyed(key: str, post: Callable[..., requests.Response], url: str, **arguments: Any) -> requests.Response:
    return post(url, **arguments | {"headers": {**(arguments.get("headers") or {}), "X-Api-Key": key}})


def test_two_indices_over_one_source_and_the_official_client(
    api: Api, deployment: Deployment, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create_index(f"{source}-ip", source=source, algorithm="FaissIndex.IP")
    # The client knows no keys; what sends its requests does.
    monkeypatch.setattr("vektonn.client.requests.post", functools.partial(keyed, api.key, requests.post))
    client = Vektonn(deployment.url)
    client.upload(source, VERSION, [
        InputDataPoint(
            attributes=[
                Attribute(key="id", value=AttributeValue(int64=number)), Attribute(key="lang", value=AttributeValue(string="en")),
            ],
            vector=Vector(is_sparse=False, coordinates=vector(number)),
        )
        for number in range(50)
    ])  # fmt: skip
    query = SearchQuery(k=3, query_vectors=[Vector(is_sparse=False, coordinates=vector(7))])
    for built in (False, True):
        for index in (source, f"{source}-ip"):
            found = client.search(index, VERSION, query)[0].nearest_data_points
            assert len(found) == 3, f"{index}, built: {built}"
        nearest = client.search(source, VERSION, query)[0].nearest_data_points[0]
        assert {a.key: a.value.int64 for a in nearest.attributes}["id"] == 7
        assert nearest.distance == pytest.approx(0, abs=1e-4)
        deployment.build()
    assert api.count(source) == 50


def test_an_upload_is_found_at_once(api: Api, source: str) -> None:
    for number in range(5):
        api.upload(source, [point(number)])
        assert api.search(source, number) == [number]


def test_an_idempotency_key_makes_a_retry_harmless(api: Api, deployment: Deployment, source: str) -> None:
    tokens = {api.upload(source, points(range(10)), **{"Idempotency-Key": "one"}).headers["Tarn-Version"] for _ in range(3)}
    assert len(tokens) == 1
    assert len(deployment.deltas(source)) == 1


def test_an_update_and_a_tombstone_win(api: Api, deployment: Deployment, source: str) -> None:
    api.upload(source, points(range(10)))
    deployment.build()
    api.upload(source, [{"attributes": point(3)["attributes"], "isDeleted": True}])
    assert api.search(source, 3) != [3]
    deployment.build()
    assert api.search(source, 3) != [3]
    assert api.exported(source) == [n for n in range(10) if n != 3]


def test_searches_of_many_shards_are_shared_out(api: Api, deployment: Deployment, source: str) -> None:
    sharded = f"{source}-sharded"
    api.create_index(sharded, source=source, shards=4)
    api.upload(source, points(range(500)))
    deployment.build()
    api.upload(source, points(range(500, 510)))
    numbers = (0, 77, 250, 499, 505)
    alone = [api.search(sharded, number, k=7) for number in numbers]
    with deployment.environment("query", TARN_LEAF_BYTES="1"):
        before = set(deployment.processes("query"))
        assert [api.search(sharded, number, k=7) for number in numbers] == alone
        # One caller, one search at a time: a second process is a search's own invocation of the function.
        assert len(set(deployment.processes("query")) - before) > 1
    assert [found[0] for found in alone] == list(numbers)


def test_points_are_counted_drawn_measured_and_deleted_through_the_gateway(api: Api, deployment: Deployment, source: str) -> None:
    index = f"/api/v1/indices/{source}/{VERSION}"
    api.upload(source, points(range(40)))
    deployment.build()
    statistics = api.call("GET", f"{index}/statistics").json()
    assert (statistics["dataPointsCount"], sum(statistics["distances"]["bins"])) == (40, 40)
    sample = api.call("POST", f"{index}/sample", {"n": 5, "seed": 3}).json()
    assert (len(sample["points"]), sample["population"]) == (5, 40)
    recall = api.call("POST", f"{index}/recall", {"queries": 5, "k": 3}).json()
    assert (recall["recall"], recall["queries"], recall["complete"]) == (1.0, 5, True)
    api.call("POST", f"{index}/warm", expect=204)
    assert len(api.call("GET", f"{index}/export").text.splitlines()) == 40
    few = {"filter": {"lt": {"key": "id", "value": 10}}}
    assert api.call("POST", f"{index}/delete-by-filter", few).json()["deleted"] == 10
    assert api.exported(source) == list(range(10, 40))


def test_errors_are_vektonns_through_the_gateway(api: Api, source: str) -> None:
    body = {"queryVectors": [{"isSparse": False, "coordinates": [1.0]}], "k": 0, "retrieveVectors": False}
    answer = api.call("POST", f"/api/v1/search/{source}/{VERSION}", body, expect=400).json()
    assert "K must be positive" in answer["errorMessages"]
    answer = api.call("POST", f"/api/v1/upload/none/{VERSION}", [], expect=404).json()
    assert answer["errorMessages"] == ["Data source DataSourceId { Name = none, Version = 1.0 } does not exist"]
    short = point(1) | {"vector": {"isSparse": False, "coordinates": [0.0]}}
    answer = api.call("POST", f"/api/v1/upload/{source}/{VERSION}", [short], expect=400).json()
    assert any("dimension" in message for message in answer["errorMessages"])


def test_binary_and_compressed_bodies_survive_the_gateway(api: Api, source: str) -> None:
    body = gzip.compress(ndjson_points(range(100)))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip", "X-Api-Key": api.key}
    answer = requests.post(f"{api.url}/api/v1/upload/{source}/{VERSION}", data=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert api.exported(source) == list(range(100))


def test_a_compressed_answer_survives_the_gateway(api: Api, source: str) -> None:
    api.upload(source, points(range(200)))
    answer = api.call("GET", f"/api/v1/data-sources/{source}/{VERSION}/export", headers={"Accept-Encoding": "gzip"})
    assert len(answer.text.splitlines()) == 200


@pytest.mark.limited
def test_a_body_that_lambda_cannot_take_is_413(api: Api, source: str) -> None:
    body = b"[" + b" " * (7 << 20) + b"]"
    answer = requests.post(f"{api.url}/api/v1/upload/{source}/{VERSION}", data=body, headers={"X-Api-Key": api.key}, timeout=60)
    assert answer.status_code == 413


def ndjson_points(numbers: range) -> bytes:
    return b"".join(json.dumps(point(number)).encode() + b"\n" for number in numbers)
