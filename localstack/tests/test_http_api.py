"""The data plane of HTTP APIs: which route, which event, which response."""

import base64
import json

import pytest
from tarn_localstack.http_api.events import BadResult, Request, event, response
from tarn_localstack.http_api.routes import match

ROUTES = [
    "$default", "GET /api/v1/info", "GET /api/v1/info/{name}/{version}", "POST /api/v1/search/{name}/{version}",
    "GET /api/v1/indices/{name}/{version}", "ANY /any/{rest+}", "GET /any/{one}", "ANY /any/{one}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/api/v1/info", "GET /api/v1/info"),
        ("GET", "/api/v1/info/films/1.0", "GET /api/v1/info/{name}/{version}"),
        ("POST", "/api/v1/info/films/1.0", "$default"),
        ("PUT", "/api/v1/indices/films/1.0", "$default"),
        ("GET", "/api/v1/indices/films/1.0", "GET /api/v1/indices/{name}/{version}"),
        ("GET", "/api/v1/indices/films/1.0/more", "$default"),
        ("GET", "/api/v1/info/", "$default"),
        ("GET", "/any/x", "GET /any/{one}"),
        ("PUT", "/any/x", "ANY /any/{one}"),
        ("GET", "/any/x/y", "ANY /any/{rest+}"),
        ("GET", "/", "$default"),
    ],
)
def test_the_best_route_takes_the_request(method: str, path: str, route: str) -> None:
    found = match(ROUTES, method, path)
    assert found is not None and found.route_key == route


def test_without_a_default_there_may_be_none() -> None:
    assert match(["GET /x"], "GET", "/y") is None


def test_path_parameters_are_decoded() -> None:
    found = match(ROUTES, "GET", "/api/v1/info/a%2Fb/1.0")
    assert found is not None and found.path_parameters == {"name": "a/b", "version": "1.0"}


def test_a_dot_in_a_route_is_a_dot() -> None:
    assert match(["GET /openapi.json"], "GET", "/openapiXjson") is None


def test_text_goes_as_text_and_the_rest_in_base64() -> None:
    def body(content_type: str, data: bytes, **more: str) -> tuple[object, object]:
        headers = [("Content-Type", content_type), *((k.replace("_", "-"), v) for k, v in more.items())]
        made = event(Request("POST", "/x", headers=headers, body=data), "api", "1", "$default", {})
        return made["body"], made["isBase64Encoded"]

    assert body("application/json", b'{"a": 1}') == ('{"a": 1}', False)
    assert body("application/json; charset=utf-8", "ä".encode()) == ("ä", False)
    assert body("application/json", b"\xff") == (base64.b64encode(b"\xff").decode(), True)
    assert body("application/vnd.apache.parquet", b"PAR1") == (base64.b64encode(b"PAR1").decode(), True)
    assert body("application/json", b"{}", Content_Encoding="gzip")[1] is True


def test_an_event_is_of_format_2() -> None:
    request = Request("GET", "/api/v1/info/a%2Fb", "k=1&k=2&empty=", [("Host", "h"), ("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1; b=2")])
    made = event(request, "api", "123", "GET /api/v1/info/{name}", {"name": "a/b"})
    assert made["version"] == "2.0" and made["rawPath"] == "/api/v1/info/a%2Fb" and made["rawQueryString"] == "k=1&k=2&empty="
    assert made["queryStringParameters"] == {"k": "1,2", "empty": ""}
    assert made["headers"] == {"host": "h", "x-a": "1,2"} and made["cookies"] == ["a=1", "b=2"]
    assert made["pathParameters"] == {"name": "a/b"}
    context = made["requestContext"]
    assert isinstance(context, dict) and context["http"]["method"] == "GET" and context["routeKey"] == made["routeKey"]
    assert "body" not in made
    json.dumps(made)


def test_results_become_responses() -> None:
    made = response(json.dumps({"statusCode": 404, "headers": {"x": "y", "n": 1}, "body": "no", "cookies": ["a=1"]}).encode())
    assert (made.status, made.body) == (404, b"no")
    assert made.headers == [("x", "y"), ("n", "1"), ("set-cookie", "a=1")]
    binary = response(json.dumps({"statusCode": 200, "body": base64.b64encode(b"\0").decode(), "isBase64Encoded": True}).encode())
    assert binary.body == b"\0"
    assert response(b'{"statusCode": 200}').body == b""
    assert response(b'{"ok": true}').body == b'{"ok": true}'


@pytest.mark.parametrize("payload", [b"no json", b'{"statusCode": "x"}', b'{"statusCode": 200, "headers": 5}'])
def test_what_is_no_result_is_an_error(payload: bytes) -> None:
    with pytest.raises(BadResult):
        response(payload)
