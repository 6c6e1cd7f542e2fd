"""API keys and scopes behind the gateway, and that no key is ever logged."""

import pytest
import requests
from api import VERSION, Api, Deployment
from points import point, points
from tarn_localstack.waiting import wait_for


def test_nobody_is_answered_without_a_key(api: Api, source: str) -> None:
    for method, path in (
        ("GET", f"/api/v1/info/{source}/{VERSION}"),
        ("POST", f"/api/v1/search/{source}/{VERSION}"),
        ("POST", f"/api/v1/upload/{source}/{VERSION}"),
        ("GET", "/api/v1/data-sources"),
        ("GET", f"/api/v1/drops/{source}/{VERSION}"),
        ("GET", "/metrics"),
    ):
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"X-Api-Key": "tarn_" + "0" * 16 + "_" + "0" * 64}):
            answer = requests.request(method, api.url + path, headers=headers, json=[], timeout=60)
            assert answer.status_code == 401, f"{method} {path} {headers}: {answer.status_code} {answer.text}"
            assert answer.json()["errorMessages"]


def test_a_key_does_what_its_scopes_say(api: Api, deployment: Deployment, source: str) -> None:
    writer = Api(deployment.url, deployment.create_key(f"write:data-sources/{source}"))
    reader = Api(deployment.url, deployment.create_key(f"read:indices/{source}"))
    writer.upload(source, points(range(5)))
    writer.call("GET", f"/api/v1/info/{source}/{VERSION}", expect=403)
    writer.call("DELETE", f"/api/v1/data-sources/{source}/{VERSION}", expect=403)
    assert reader.search(source, 3) == [3]
    reader.call("POST", f"/api/v1/upload/{source}/{VERSION}", [point(1)], expect=403)
    reader.call("POST", f"/api/v1/uploads/{source}/{VERSION}", {"fileName": "a.csv"}, expect=403)


def test_both_headers_work(api: Api) -> None:
    gateways = {"Authorization": "Bearer a.token.of-the-gateway", "X-Api-Key": api.key}
    for headers in ({"Authorization": f"Bearer {api.key}"}, {"X-Api-Key": api.key}, gateways):
        assert requests.get(f"{api.url}/api/v1/data-sources", headers=headers, timeout=60).status_code == 200


@pytest.mark.once
@pytest.mark.parametrize("function", ["ingest_http", "query"])
def test_no_key_is_logged(api: Api, deployment: Deployment, source: str, function: str) -> None:
    """Not even by a function that logs all it does."""
    path = {"ingest_http": f"/api/v1/data-sources/{source}/{VERSION}", "query": f"/api/v1/info/{source}/{VERSION}"}[function]
    with deployment.environment(function, TARN_LOG="debug"):
        wrong = {"X-Api-Key": "tarn_wrong_secret"}
        assert requests.get(api.url + path, headers=wrong, timeout=60).status_code == 401
        bearer = {"Authorization": f"Bearer {api.key}"}
        assert requests.get(api.url + path, headers=bearer, timeout=60).status_code == 200
        # The last request: with it, all of them are in the log.
        marker = api.call("GET", path + "-none", expect=404).json()["requestId"]
        logged = wait_for("the log to arrive", lambda: marker in (text := deployment.logged(function)) and text, 30)
    secret = api.key.rsplit("_", 1)[1]
    assert secret not in logged and "tarn_wrong_secret" not in logged
