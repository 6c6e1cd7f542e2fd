"""Points by number: every number has one vector, far enough from all others to be found by it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

DIMENSION = 16


def vector(number: int) -> list[float]:
    """A direction for the number's last digits and a length for the rest: distinct for all numbers below ten million."""
    turn = number % 997
    length = 1.0 + (number // 997) * 0.01
    return [round(length * math.cos(turn * (i + 1) * 0.7 + i), 5) for i in range(DIMENSION)]


def point(number: int, lang: str = "en") -> dict[str, Any]:
    return {
        "attributes": [{"key": "id", "value": {"int64": number}}, {"key": "lang", "value": {"string": lang}}],
        "vector": {"isSparse": False, "coordinates": vector(number)},
    }


def points(numbers: Iterable[int], lang: str = "en") -> list[dict[str, Any]]:
    return [point(number, lang) for number in numbers]


def ndjson(numbers: Iterable[int], lang: str = "en") -> bytes:
    """Rows of a file that is dropped."""
    return b"".join(json.dumps({"id": number, "lang": lang, "vector": vector(number)}).encode() + b"\n" for number in numbers)


def csv(numbers: Iterable[int], lang: str = "en") -> bytes:
    rows = [f'{number},{lang},"{json.dumps(vector(number))}"' for number in numbers]
    return "\n".join(["id,lang,vector", *rows, ""]).encode()


def large_parquet(rows: int) -> bytes:
    """Ids from 0 on, and the vectors of a thousand points over and over: made quickly, however large. For whole thousands."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    thousand = pa.array([x for number in range(1_000) for x in vector(number)], pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(pa.concat_arrays([thousand] * (rows // 1_000)), DIMENSION)
    out = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(range(rows), pa.int64()), "lang": ["en"] * rows, "vector": vectors}), out)
    return out.getvalue()


def parquet(numbers: Iterable[int], lang: str = "en") -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = list(numbers)
    vectors = pa.array([vector(number) for number in numbers], pa.list_(pa.float32(), DIMENSION))
    table = pa.table({"id": pa.array(numbers, pa.int64()), "lang": [lang] * len(numbers), "vector": vectors})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
