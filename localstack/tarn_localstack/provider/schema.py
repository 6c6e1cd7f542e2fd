"""The schema of `schema.json` as Terraform's protocol wants it, and what follows from it for values.

Values are what the protocol carries: dicts, lists, `Unknown` for what is not known before the change is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tf.gen import tfplugin_pb2 as pb
from tf.types import Unknown

Value = dict[str, Any]
SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "schema.json").read_text())
VERSION: str = SCHEMA["provider_version"]

_NESTING = {
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
    "single": pb.Schema.NestedBlock.SINGLE,
}


def message(block: Value) -> pb.Schema:
    return pb.Schema(version=0, block=_block(block))


def _block(block: Value) -> pb.Schema.Block:
    attributes = [
        pb.Schema.Attribute(name=name, type=json.dumps(kind).encode(), **{word: True for word in presence.split()})
        for name, (kind, presence) in block["attributes"].items()
    ]
    blocks = [
        pb.Schema.NestedBlock(
            type_name=name, nesting=_NESTING[inner["nesting"]], block=_block(inner), min_items=inner["min"], max_items=inner["max"]
        )
        for name, inner in block.get("blocks", {}).items()
    ]
    return pb.Schema.Block(version=0, attributes=attributes, block_types=blocks)


def _nested(block: Value, value: Value) -> list[tuple[Value, Value]]:
    """The blocks inside a value, each with its schema."""
    out = []
    for name, inner in block.get("blocks", {}).items():
        held = value.get(name)
        items = [held] if inner["nesting"] == "single" else held if isinstance(held, list) else []
        out += [(inner, item) for item in items if isinstance(item, dict)]
    return out


def with_unknowns(block: Value, value: Value) -> Value:
    """A plan: computed attributes that the configuration leaves out will be known after the change."""
    for name, (_, presence) in block["attributes"].items():
        if "computed" in presence and value.get(name) is None:
            value[name] = Unknown
    for inner, item in _nested(block, value):
        with_unknowns(inner, item)
    return value


def without_unknowns(block: Value, value: Value) -> Value:
    """A state: what nobody filled in is null."""
    for name in block["attributes"]:
        if value.get(name, Unknown) is Unknown:
            value[name] = None
    for inner, item in _nested(block, value):
        without_unknowns(inner, item)
    return value
