"""HTTP APIs in LocalStack: `http://127.0.0.1:4566/_aws/http-api/{api id}/{path}`."""

from __future__ import annotations

import json
import re
from typing import Any

import moto.backends
from localstack.aws.connect import connect_to
from localstack.aws.spec import load_service
from localstack.http import Request as LocalStackRequest
from localstack.http import Response as LocalStackResponse
from localstack.services.edge import ROUTER
from localstack.services.moto import _proxy_moto
from localstack.services.plugins import ServiceLifecycleHook

from ..http_api import events, routes

PREFIX = "/_aws/http-api"
_FUNCTION = re.compile(r"arn:aws:lambda:([^:]+):(\d+):function:([^/:]+)")


class HttpApiProvider(ServiceLifecycleHook):
    service = "apigatewayv2"

    def on_after_init(self) -> None:
        ROUTER.add(f"{PREFIX}/<api_id>/", endpoint=_serve, defaults={"path": ""})
        ROUTER.add(f"{PREFIX}/<api_id>/<path:path>", endpoint=_serve)


def everything_to_moto(provider: HttpApiProvider) -> dict[str, Any]:
    return {operation: _proxy_moto for operation in load_service(provider.service).operation_names}


def _serve(request: LocalStackRequest, api_id: str, path: str = "", **_: object) -> LocalStackResponse:
    api = _find(api_id)
    # The path as it was sent: names in it are percent-encoded, and the function has to see that.
    raw = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or f"{PREFIX}/{api_id}/{path}"
    raw_path = "/" + re.sub(r"^(https?://[^/]+)?" + re.escape(f"{PREFIX}/{api_id}") + "/?", "", raw.split("?", 1)[0])
    taken = api and routes.match([route.route_key for route in api.routes.values()], request.method, raw_path)
    if not api or not taken:
        return _message(404, "Not Found")
    body = request.get_data()
    if len(body) > events.EVENT_BYTES:
        return _message(413, "Request Entity Too Large")
    route = next(route for route in api.routes.values() if route.route_key == taken.route_key)
    integration = api.integrations[route.target.split("/")[-1]]
    function = _FUNCTION.search(integration.integration_uri)
    if not function:
        return _message(500, "Internal Server Error")
    region, account, _name = function.groups()
    event = events.event(
        events.Request(request.method, raw_path, request.query_string.decode(), list(request.headers.items()), body),
        api_id, account, taken.route_key, taken.path_parameters,
    )  # fmt: skip
    encoded = json.dumps(event)
    if len(encoded) > events.EVENT_BYTES:
        return _message(413, "Request Entity Too Large")
    answer = connect_to(region_name=region, aws_access_key_id=account).lambda_.invoke(FunctionName=function[0], Payload=encoded)
    if answer.get("FunctionError"):
        return _message(500, "Internal Server Error")
    try:
        response = events.response(answer["Payload"].read())
    except events.BadResult:
        return _message(500, "Internal Server Error")
    out = LocalStackResponse(response.body, response.status)
    out.headers.clear()
    for name, value in [*response.headers, ("apigw-requestid", str(event["requestContext"]["requestId"]))]:  # type: ignore[index]
        out.headers.add(name, value)
    out.headers["Content-Length"] = str(len(response.body))
    return out


def _find(api_id: str) -> Any:
    for by_region in moto.backends.get_backend("apigatewayv2").values():
        for backend in by_region.values():
            if api_id in backend.apis:
                return backend.apis[api_id]
    return None


def _message(status: int, text: str) -> LocalStackResponse:
    return LocalStackResponse(json.dumps({"message": text}), status, mimetype="application/json")
