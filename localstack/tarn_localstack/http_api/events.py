"""Requests to events and results to responses, in payload format 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import parse_qsl

# API Gateway lets 10 MB in, Lambda 6 MB; the smaller limit is the one that users meet.
EVENT_BYTES = 6 * 1024 * 1024
_TEXT = ("text/", "application/json", "application/xml", "application/javascript")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    source_ip: str = "127.0.0.1"


@dataclass(frozen=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class BadResult(ValueError):
    """The function answered what API Gateway cannot turn into a response."""


def event(request: Request, api_id: str, account: str, route_key: str, path_parameters: dict[str, str]) -> dict[str, object]:
    """The event for a request that takes `route_key`."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in request.headers:
        name = name.lower()
        if name == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";")]
        elif name not in ("connection", "transfer-encoding"):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    now = datetime.now(timezone.utc)
    out: dict[str, object] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": account,
            "apiId": api_id,
            "domainName": headers.get("host", "localhost"),
            "domainPrefix": api_id,
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": route_key,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        out["cookies"] = cookies
    if parameters:
        out["queryStringParameters"] = parameters
    if path_parameters:
        out["pathParameters"] = path_parameters
    if request.body:
        out["body"], out["isBase64Encoded"] = _encode(request.body, headers)
    return out


def response(payload: bytes) -> Response:
    """The response for a function's result."""
    try:
        result = json.loads(payload)
    except ValueError as error:
        raise BadResult("the function's result is not JSON") from error
    if not isinstance(result, dict) or "statusCode" not in result:
        # The short form: the result itself is the body.
        body = result.encode() if isinstance(result, str) else payload
        return Response(200, [("content-type", "application/json")], body)
    text = result.get("body") or ""
    try:
        body = base64.b64decode(text) if result.get("isBase64Encoded") else text.encode()
        headers = [(str(name), _text(value)) for name, value in (result.get("headers") or {}).items()]
        headers += [("set-cookie", cookie) for cookie in result.get("cookies") or []]
        return Response(int(result["statusCode"]), headers, body)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadResult(f"the function's result is malformed: {error}") from error


def _encode(body: bytes, headers: dict[str, str]) -> tuple[str, bool]:
    """Text goes as it is, everything else in Base64. What is compressed is not text, whatever its type says."""
    if headers.get("content-type", "").lower().startswith(_TEXT) and "content-encoding" not in headers:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
