"""Whether all that a configuration says was sent: what a resource's code never looks at cannot have been.

Without this an argument that is new to the module would be accepted, kept in the state, found unchanged by every plan, and be
nowhere else.
"""

from __future__ import annotations

from typing import Any

from tf.types import Unknown

from .schema import Value

# Of any resource. Tags are for people and bills; time-outs, for Terraform.
UNSENT = frozenset({"tags", "tags_all", "timeouts"})


class Watched(dict[str, Any]):
    """A value that remembers which of its attributes and blocks were looked at, one by one."""

    def __init__(self, block: Value, value: Value) -> None:
        blocks = block.get("blocks", {})
        super().__init__({name: _watched(blocks[name], held) if name in blocks else held for name, held in value.items()})
        self.looked_at: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.looked_at.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.looked_at.add(name)
        return super().get(name, default)


def _watched(block: Value, held: Any) -> Any:
    if isinstance(held, dict):
        return Watched(block, held)
    return [_watched(block, item) for item in held] if isinstance(held, list) else held


def unsent(block: Value, prior: Value | None, value: Watched, path: str = "") -> list[str]:
    """What is new in `value` and was not looked at, as in `rule.filter.prefix`. What says nothing need not be sent."""
    out = []
    for name, held in value.items():
        before = (prior or {}).get(name)
        if held == before or held is None or held is Unknown or held in ("", [], {}):
            continue
        if name not in value.looked_at:
            out.append(path + name)
        elif inner := block.get("blocks", {}).get(name):
            items, others = ([of] if isinstance(of, dict) else of or [] for of in (held, before))
            for i, item in enumerate(items):
                out += unsent(inner, others[i] if i < len(others) else None, item, f"{path}{name}.")
    return sorted(set(out))
