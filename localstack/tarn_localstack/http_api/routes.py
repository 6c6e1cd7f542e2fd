"""Which route of an HTTP API a request takes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html: a full match wins over a greedy
path variable, the route's own method over ANY, and `$default` takes the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True)
class Match:
    route_key: str
    path_parameters: dict[str, str]


def match(route_keys: Iterable[str], method: str, path: str) -> Match | None:
    """The best of the routes for the request, if any takes it."""
    found: list[tuple[tuple[bool, int, bool], Match]] = []
    for key in route_keys:
        if key == "$default":
            found.append(((False, 0, False), Match(key, {})))
            continue
        wanted, template = key.split(" ", 1)
        if wanted not in ("ANY", method):
            continue
        parameters = _parameters(template, path)
        if parameters is not None:
            greedy = "+}" in template
            literal = sum(not part.startswith("{") for part in template.split("/"))
            # Anything but $default is preferred; then what is not greedy, then more literal parts, then the exact method.
            found.append(((True, literal + (0 if greedy else 1000), wanted != "ANY"), Match(key, parameters)))
    return max(found, key=lambda candidate: candidate[0])[1] if found else None


def _parameters(template: str, path: str) -> dict[str, str] | None:
    pattern = ""
    for part in re.split(r"(\{\w+\+?\})", template):
        if found := re.fullmatch(r"\{(\w+)(\+?)\}", part):
            pattern += f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})"
        else:
            pattern += re.escape(part)
    hit = re.fullmatch(pattern, path)
    return None if hit is None else {name: unquote(value) for name, value in hit.groupdict().items()}
