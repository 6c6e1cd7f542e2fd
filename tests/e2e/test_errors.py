"""Each documented error of layer 1: status and exact message, as the client reads them."""

import pytest
from points import all_types, attribute, dense, point, query, sparse, tombstone
from vektonn.dtos import InputDataPoint, SearchQuery, Vector
from vektonn.errors import VektonnApiError


def refused(call, status, *messages):
    with pytest.raises(VektonnApiError) as caught:
        call()
    assert (caught.value.status, caught.value.error.error_messages) == (status, list(messages))


@pytest.fixture
def source(define):
    return define("FaissIndex.L2", split=["split"])


def test_unknown_index(client):
    refused(
        lambda: client.search("nowhere", "1.0", query(dense(1))), 404,
        "Index IndexId { Name = nowhere, Version = 1.0 } does not exist",
    )


def test_unknown_data_source(client):
    refused(
        lambda: client.upload("nowhere", "1.0", [point(all_types(1), dense(1, 2, 3))]), 404,
        "Data source DataSourceId { Name = nowhere, Version = 1.0 } does not exist",
    )


@pytest.mark.parametrize(
    "search_query, messages",
    [
        (query(dense(1, 2, 3), k=0), ["K must be positive"]),
        (query(k=5), ["At least one query vector is required"]),
        (query(k=-1), ["K must be positive", "At least one query vector is required"]),
        (query(dense(1, 2, 3), split={"id": 1}), ["SplitFilter attribute keys must be in SplitAttributes: {split}"]),
        (query(dense(1, 2, 3), split={"split": 1}), ["SplitFilter attribute 'split' has invalid value: '1'"]),
        (query(dense(1, 2)), ["Vector coordinates must have dimension: 3"]),
        (query(sparse(i1=1.0)), ["Vector must be dense"]),
    ],
)
def test_bad_queries(client, source, search_query, messages):
    refused(lambda: client.search(*source.address, search_query), 400, *messages)


def test_split_filter_keys_must_be_unique(client, source):
    twice = SearchQuery(k=1, query_vectors=[dense(1, 2, 3)], split_filter=[attribute("split", "a"), attribute("split", "b")])
    refused(lambda: client.search(*source.address, twice), 400, "SplitFilter attribute keys must be unique")


@pytest.mark.parametrize(
    "bad, message",
    [
        (point(all_types(1), dense(1, 2)), "Vector coordinates must have dimension: 3"),
        (point(all_types(1), sparse(i1=1.0)), "Vector must be dense"),
        (point({**all_types(1), "extra": 1}, dense(1, 2, 3)), "InputDataPoint attribute key is unknown: 'extra'"),
        (point({**all_types(1), " ": 1}, dense(1, 2, 3)), "InputDataPoint attribute key is null or whitespace"),
        (point(all_types(1, id="x"), dense(1, 2, 3)), "InputDataPoint attribute 'id' has invalid value: 'x'"),
        (point(all_types(1, flag=3), dense(1, 2, 3)), "InputDataPoint attribute 'flag' has invalid value: '3'"),
        (
            point({"id": 1, "split": "a"}, dense(1, 2, 3)),
            "All attributes defined for data source (and no other ones) must be specified",
        ),
        (InputDataPoint(attributes=[]), "IsDeleted is inconsistent with Vector"),
    ],
)
def test_bad_points_change_nothing(client, source, bad, message):
    good = point(all_types(5), dense(1, 2, 3))
    with pytest.raises(VektonnApiError) as caught:
        client.upload(*source.address, [good, bad])
    assert caught.value.status == 400
    assert message in caught.value.error.error_messages
    [result] = client.search(*source.address, query(dense(1, 2, 3)))
    assert result.nearest_data_points == [], "the batch is all or nothing"


def test_attribute_keys_must_be_unique(client, source):
    double = point(all_types(1), dense(1, 2, 3))
    double.attributes.append(attribute("id", 2))
    refused(lambda: client.upload(*source.address, [double]), 400, "Attribute keys must be unique")


def test_a_deleted_point_has_no_vector(client, source):
    both = tombstone(all_types(1))
    both.vector = dense(1, 2, 3)
    refused(lambda: client.upload(*source.address, [both]), 400, "IsDeleted is inconsistent with Vector")


def test_an_attribute_value_sets_exactly_one_field(server, client, source):
    for value in ({}, {"string": "a", "int64": 1}):
        body = [{"attributes": [{"key": "split", "value": value}], "isDeleted": True}]
        status, _, answer = server.request("POST", f"/api/v1/upload/{source.name}/{source.version}", body)
        assert status == 400
        assert any("InputDataPoint attribute 'split' has invalid value" in text for text in answer["errorMessages"])


def test_sparse_vectors(client, define):
    source = define("SparnnIndex.Cosine", dimension=10)
    upload = lambda vector: lambda: client.upload(*source.address, [point(all_types(1), vector)])  # noqa: E731
    refused(upload(dense(*range(10))), 400, "Vector must be sparse")
    twice = Vector(is_sparse=True, coordinates=[1.0, 2.0], coordinate_indices=[3, 3])
    refused(upload(twice), 400, "Each vector coordinate value must have unique corresponding index")
    uneven = Vector(is_sparse=True, coordinates=[1.0, 2.0], coordinate_indices=[3])
    refused(upload(uneven), 400, "Each vector coordinate value must have unique corresponding index")


def test_not_a_number_is_refused(client, source):
    nan = Vector(is_sparse=False, coordinates=[1.0, float("nan"), 3.0])
    with pytest.raises(VektonnApiError) as caught:
        client.upload(*source.address, [point(all_types(1), nan)])
    assert caught.value.status == 400


def test_an_integer_beyond_64_bits_is_refused(server, source):
    body = '[{"attributes":[{"key":"id","value":{"int64":9223372036854775808}}],"isDeleted":true}]'.encode()
    status, _, answer = server.request("POST", f"/api/v1/upload/{source.name}/{source.version}", body)
    assert status == 400 and answer["errorMessages"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'[{"attributes": 5}]', b"null"], ids=range(8))
def test_hostile_bodies_get_an_error_dto(server, source, body):
    for path in ("upload", "search"):
        status, _, answer = server.request("POST", f"/api/v1/{path}/{source.name}/{source.version}", body)
        assert status == 400, (path, body[:20], answer)
        assert answer["errorMessages"] and all(isinstance(text, str) for text in answer["errorMessages"])


def test_wrong_method_path_and_media_type_get_an_error_dto(server, source):
    address = f"{source.name}/{source.version}"
    for method, path, headers, status in [
        ("DELETE", f"/api/v1/upload/{address}", {}, 405),
        ("GET", "/api/v1/nothing/here", {}, 404),
        ("POST", f"/api/v1/upload/{address}", {"Content-Type": "text/plain"}, 415),
    ]:
        got, _, answer = server.request(method, path, b"[]" if method == "POST" else None, headers)
        assert (got, bool(answer["errorMessages"])) == (status, True)


