"""MiniStack as if TLS ended in front of it: what `ministack.start` runs.

The module's bucket and queues refuse requests without TLS, and MiniStack enforces that. On loopback nobody speaks TLS, so
each request is marked as a proxy that had ended TLS would mark it, but for those with the header `X-Tarn-Plain`: they are
how a test asks what happens to a request without.
"""

from __future__ import annotations

from typing import Any

from ministack import app as ministack

_inner = ministack.app


async def behind_tls(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http" and not any(name == b"x-tarn-plain" for name, _ in scope["headers"]):
        scope = scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
    await _inner(scope, receive, send)


if __name__ == "__main__":
    ministack.app = behind_tls
    ministack.main()
