"""The official Vektonn client, unmodified, against `tarn serve`."""

import asyncio
import datetime
import math

import pytest
from points import all_types, dense, point, query, read, search, sparse, tombstone
from vektonn import VektonnAsync

HNSW = {"Hnsw_M": "16", "Hnsw_EfConstruction": "64", "Hnsw_EfSearch": "32"}


def test_all_attribute_types_come_back_as_they_went(client, define):
    source = define("FaissIndex.L2", split=["split"])
    unicode = "Ünïcödé 🦭 日本語 \" \\ \n"
    values = all_types(7, split=unicode, score=-0.1, flag=False)
    client.upload(*source.address, [point(values, dense(1, 2, 3))])
    [result] = client.search(*source.address, query(dense(1, 2, 3)))
    [found] = result.nearest_data_points
    assert read(found) == values
    assert found.distance == 0
    assert found.vector.coordinates == [1, 2, 3]
    assert result.query_vector.coordinates == [1, 2, 3]
    assert [a.key for a in found.attributes] == ["id", "split", "flag", "score", "seen", "uid"], "wire order"


@pytest.mark.parametrize(
    "sent, microseconds",
    [("2021-03-04T05:06:07", 0), ("2021-03-04T05:06:07.5Z", 500000), ("2021-03-04T10:06:07.0000001+05:00", 0)],
)
def test_date_times_of_every_shape_are_utc(client, server, define, sent, microseconds):
    source = define("FaissIndex.L2", types={"id": "Int64", "seen": "DateTime"}, permanent=["id"])
    body = [
        {
            "attributes": [{"key": "id", "value": {"int64": 1}}, {"key": "seen", "value": {"dateTime": sent}}],
            "vector": {"isSparse": False, "coordinates": [0, 0, 0]},
        }
    ]
    status, _, answer = server.request("POST", f"/api/v1/upload/{source.name}/{source.version}", body)
    assert status == 200 and answer is None
    [result] = client.search(*source.address, query(dense(0, 0, 0)))
    expected = datetime.datetime(2021, 3, 4, 5, 6, 7, microseconds, tzinfo=datetime.timezone.utc)
    assert read(result.nearest_data_points[0])["seen"] == expected


def test_an_upload_is_searchable_at_once(client, define):
    source = define("FaissIndex.L2")
    for number in range(20):
        client.upload(*source.address, [point(all_types(number), dense(number, 0, 0))])
        assert search(client, source, dense(number, 0, 0), k=1) == [[number]]


def test_updates_replace_and_tombstones_remove(client, define):
    source = define("FaissIndex.L2")
    client.upload(*source.address, [point(all_types(n), dense(n, 0, 0)) for n in range(5)])
    client.upload(*source.address, [point(all_types(4, score=99.5), dense(-1, 0, 0))])
    assert search(client, source, dense(0, 0, 0), k=3) == [[0, 1, 4]]
    [result] = client.search(*source.address, query(dense(-1, 0, 0), k=1))
    assert read(result.nearest_data_points[0])["score"] == 99.5
    client.upload(*source.address, [tombstone({"id": 0, "split": "a"}), tombstone(all_types(1)), tombstone({"id": 77, "split": "b"})])
    assert search(client, source, dense(0, 0, 0)) == [[4, 2, 3]]
    client.upload(*source.address, [point(all_types(0), dense(0, 0, 0))])
    assert search(client, source, dense(0, 0, 0), k=1) == [[0]]


def test_the_last_write_of_a_batch_wins(client, define):
    source = define("FaissIndex.L2")
    batch = [point(all_types(1), dense(1, 0, 0)), tombstone({"id": 1, "split": "a"}), point(all_types(1), dense(2, 0, 0))]
    client.upload(*source.address, batch + [point(all_types(2), dense(9, 9, 9)), tombstone({"id": 2, "split": "a"})])
    [result] = client.search(*source.address, query(dense(2, 0, 0)))
    assert [found.distance for found in result.nearest_data_points] == [0]


def test_k_above_n_returns_n_and_an_empty_index_returns_nothing(client, define):
    source = define("FaissIndex.L2")
    assert search(client, source, dense(0, 0, 0), k=5) == [[]]
    client.upload(*source.address, [point(all_types(n), dense(n, 0, 0)) for n in range(3)])
    assert search(client, source, dense(0, 0, 0), k=100) == [[0, 1, 2]]


def test_split_filters_full_partial_and_none(client, define):
    types = {"id": "Int64", "a": "String", "b": "Bool"}
    source = define("FaissIndex.L2", split=["a", "b"], types=types, permanent=["id", "a", "b"])
    points = []
    for number in range(12):
        points.append(point({"id": number, "a": "xyz"[number % 3], "b": number % 2 == 0}, dense(number, 0, 0)))
    client.upload(*source.address, points)
    origin = dense(0, 0, 0)
    assert search(client, source, origin, k=12) == [list(range(12))]
    assert search(client, source, origin, k=12, split={"a": "x"}) == [[0, 3, 6, 9]]
    assert search(client, source, origin, k=12, split={"b": False}) == [[1, 3, 5, 7, 9, 11]]
    assert search(client, source, origin, k=12, split={"a": "x", "b": True}) == [[0, 6]]
    assert search(client, source, origin, k=12, split={"a": "nowhere"}) == [[]]


@pytest.mark.parametrize("params", [None, HNSW], ids=["exact", "hnsw"])
@pytest.mark.parametrize(
    "algorithm, near, far, distances",
    [
        ("FaissIndex.L2", [1, 0, 0], [3, 4, 0], [1, 25]),
        ("FaissIndex.IP", [3, 4, 0], [1, 0, 0], [4, 0]),
        ("Tarn.Cosine", [0, 2, 0], [5, 0, 0], [0, 1]),
    ],
)
def test_dense_metrics(client, define, algorithm, near, far, distances, params):
    source = define(algorithm, params=params)
    client.upload(*source.address, [point(all_types(2), dense(*far)), point(all_types(1), dense(*near))])
    target = dense(0, 0, 0) if algorithm.endswith("L2") else dense(0, 1, 0)
    [result] = client.search(*source.address, query(target))
    assert [read(found)["id"] for found in result.nearest_data_points] == [1, 2]
    assert [found.distance for found in result.nearest_data_points] == pytest.approx(distances)


def test_sparse_cosine(client, define):
    source = define("SparnnIndex.Cosine", dimension=1_000_000)
    client.upload(
        *source.address,
        [
            point(all_types(1), sparse(i3=1.0, i999999=1.0)),
            point(all_types(2), sparse(i3=-1.0)),
            point(all_types(3), sparse(i7=0.1)),
        ],
    )
    [result] = client.search(*source.address, query(sparse(i3=2.0)))
    assert [read(found)["id"] for found in result.nearest_data_points] == [1, 3, 2]
    assert [found.distance for found in result.nearest_data_points] == pytest.approx([1 - math.sqrt(0.5), 1, 2])
    vector = result.nearest_data_points[0].vector
    assert (vector.coordinate_indices, vector.coordinates) == ([3, 999999], [1, 1])


def test_sparse_jaccard(client, define):
    source = define("SparnnIndex.JaccardBinary", dimension=50)
    client.upload(*source.address, [point(all_types(1), sparse(i1=5.0, i2=0.1)), point(all_types(2), sparse(i9=1.0))])
    [result] = client.search(*source.address, query(sparse(i1=1.0)))
    assert [read(found)["id"] for found in result.nearest_data_points] == [1, 2]
    assert [found.distance for found in result.nearest_data_points] == pytest.approx([0.5, 1])


def test_batches_of_queries_answer_in_order(client, define):
    source = define("FaissIndex.L2")
    client.upload(*source.address, [point(all_types(n), dense(n, 0, 0)) for n in range(50)])
    vectors = [dense(n, 0, 0) for n in (40, 3, 17)]
    assert search(client, source, *vectors, k=1) == [[40], [3], [17]]


def test_vectors_are_left_out_on_request(client, define):
    source = define("FaissIndex.L2")
    client.upload(*source.address, [point(all_types(1), dense(1, 2, 3))])
    [result] = client.search(*source.address, query(dense(0, 0, 0), retrieve=False))
    assert result.nearest_data_points[0].vector is None


def test_ties_break_by_point_id(client, define):
    source = define("FaissIndex.L2")
    order = [5, -3, 9, 0, 2]
    client.upload(*source.address, [point(all_types(abs(n), id=n), dense(1, 1, 1)) for n in order])
    assert search(client, source, dense(0, 0, 0)) == [[-3, 0, 2, 5, 9]]
    assert search(client, source, dense(0, 0, 0), k=2) == [[-3, 0]]


def test_the_async_client(server, define):
    source = define("FaissIndex.L2")

    async def main():
        client = VektonnAsync(server.url)
        await client.upload(*source.address, [point(all_types(1), dense(1, 2, 3))], request_timeout_seconds=30.0)
        [result] = await client.search(*source.address, query(dense(1, 2, 3)), request_timeout_seconds=30.0)
        return [read(found)["id"] for found in result.nearest_data_points]

    assert asyncio.run(main()) == [1]


def test_answers_stay_right_while_the_builder_works(client, server, define):
    source = define("FaissIndex.L2", split=["split"])
    live = {}
    for batch in range(8):
        points = [point(all_types(n), dense(n, batch, 0)) for n in range(batch * 40, batch * 40 + 60)]
        live.update({n: batch for n in range(batch * 40, batch * 40 + 60)})
        gone = {"id": batch * 40 + 1, "split": "a"}
        client.upload(*source.address, points + [tombstone(gone)])
        live.pop(gone["id"])
        if batch in (2, 5):
            build = server.tarn("build")
            assert build.returncode == 0, build.stderr
        expected = sorted(live, key=lambda n: (n * n + live[n] ** 2, n))
        assert search(client, source, dense(0, 0, 0), k=1000) == [expected]
    status, _, info = server.request("GET", f"/api/v1/info/{source.name}/{source.version}")
    assert status == 200
    assert info == {
        "indexAlgorithm": "FaissIndex.L2", "vectorType": "DenseVector", "vectorDimension": 3, "dataPointsCount": len(live),
    }
    verify = server.tarn("verify")
    assert verify.returncode == 0, verify.stdout + verify.stderr


def test_info_and_probe(client, server, define):
    source = define("SparnnIndex.Cosine", dimension=77)
    client.upload(*source.address, [point(all_types(n), sparse(i5=1.0)) for n in (1, 2)])
    status, _, info = server.request("GET", f"/api/v1/info/{source.name}/{source.version}")
    assert (status, info["vectorType"], info["vectorDimension"], info["dataPointsCount"]) == (200, "SparseVector", 77, 2)
    status, _, probe = server.request("GET", f"/api/v1/probe/{source.name}/{source.version}?k=2")
    assert status == 200
    assert [found["distance"] for result in probe for found in result["nearestDataPoints"]] == [1, 1]


def test_status_pages(server):
    assert server.request("GET", "/_status/ping")[2] == {"Status": "Ok"}
    assert server.request("GET", "/_status/version")[2]["CommitHash"]


