"""Short forms for what the Vektonn client sends."""

import datetime
import uuid

from vektonn.dtos import Attribute, AttributeValue, InputDataPoint, SearchQuery, Vector

SEEN = datetime.datetime(2021, 3, 4, 5, 6, 7, 890123, tzinfo=datetime.timezone.utc)


def attribute(key, value) -> Attribute:
    """An attribute whose wire type follows the Python type."""
    kinds = {
        bool: "bool", int: "int64", float: "float64", str: "string", uuid.UUID: "guid", datetime.datetime: "date_time",
    }
    return Attribute(key=key, value=AttributeValue(**{kinds[type(value)]: value}))


def attributes(values: dict):
    return [attribute(key, value) for key, value in values.items()]


def read(found) -> dict:
    """The attributes of a found point as a dict of Python values."""
    result = {}
    for item in found.attributes:
        values = [value for value in item.value.__dict__.values() if value is not None]
        assert len(values) == 1, f"{item.key} has {len(values)} values"
        result[item.key] = values[0]
    return result


def dense(*coordinates) -> Vector:
    return Vector(is_sparse=False, coordinates=[float(c) for c in coordinates])


def sparse(**at) -> Vector:
    """sparse(i3=0.5) has 0.5 at index 3."""
    return Vector(
        is_sparse=True, coordinates=list(at.values()), coordinate_indices=[int(key[1:]) for key in at]
    )


def all_types(number: int, split="a", **changes) -> dict:
    values = {
        "id": number, "split": split, "flag": number % 2 == 0, "score": number + 0.25, "uid": uuid.UUID(int=number), "seen": SEEN,
    }
    return {**values, **changes}


def point(values: dict, vector) -> InputDataPoint:
    return InputDataPoint(attributes=attributes(values), vector=vector)


def tombstone(values: dict) -> InputDataPoint:
    return InputDataPoint(attributes=attributes(values), is_deleted=True)


def query(*vectors, k=10, split=None, retrieve=True) -> SearchQuery:
    fields = {"k": k, "query_vectors": list(vectors)}
    if split is not None:
        fields["split_filter"] = attributes(split)
    if not retrieve:
        fields["retrieveVectors"] = False
    return SearchQuery(**fields)


def search(client, source, *vectors, **options):
    """The ids found, a list for each query vector."""
    results = client.search(*source.address, query(*vectors, **options))
    return [[read(found)["id"] for found in result.nearest_data_points] for result in results]
