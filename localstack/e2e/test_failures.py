"""Functions that die, messages that nobody can process, and many writers at once."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from api import Api, Deployment
from points import large_parquet, ndjson, point, points
from tarn_localstack.waiting import wait_for


@pytest.mark.once
def test_a_function_killed_half_way_finishes_the_file_once(api: Api, deployment: Deployment, source: str) -> None:
    rows, deltas = 310_000, 4
    with deployment.impatient("drop", 6):
        deployment.drop(source, "killed.parquet", large_parquet(rows))
        wait_for("the first delta of the file", lambda: deployment.deltas(source), 60, every=0.01)
        killed = deployment.kill("ingest_drop")
        half = deployment.deltas(source)
        assert killed and 0 < len(half) < deltas, "the file was done before the function could be killed: make it larger"
        drop = api.settled(source, "killed.parquet", 180)
    assert drop["state"] == "committed" and drop["rowsCommitted"] == rows, drop
    # Each sequence once: what was appended before the kill is still there, and was not appended again.
    after = deployment.deltas(source)
    assert set(half) < set(after) and len(after) == deltas
    assert len(set(drop["sequences"])) == len(drop["sequences"]) == deltas
    deployment.build()
    assert api.count(source) == rows


@pytest.mark.once
def test_a_builder_killed_half_way_harms_nothing(api: Api, deployment: Deployment, source: str) -> None:
    sharded = f"{source}-sharded"
    api.create_index(sharded, source=source, shards=16)
    with deployment.without_debounced_builds():
        api.upload(source, points(range(5_000)))
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(deployment.invoke, "builder", {"task": "run"})
            wait_for("the fold to be done", lambda: deployment.keys(f"sources/{source}/1.0/checkpoints/"), 60, every=0.01)
            killed = deployment.kill("builder")
            _, failed = run.result(120)
        assert killed and failed, "the builder was done before it could be killed: give it more to build"
        assert api.search(source, 4_321) == api.search(sharded, 4_321) == [4_321]
        deployment.build()
    assert api.count(source) == api.count(sharded) == 5_000
    assert api.search(source, 4_321) == api.search(sharded, 4_321) == [4_321]


@pytest.mark.once
def test_a_poison_message_ends_in_the_dead_letter_queue(api: Api, deployment: Deployment, source: str) -> None:
    dead = deployment.waiting("drop_dead")
    with deployment.impatient("drop", 1):
        deployment.sqs.send_message(QueueUrl=deployment.queues["drop"], MessageBody="no notification of anything")
        # Others pass it by.
        deployment.drop(source, "good.ndjson", ndjson(range(10)))
        assert api.settled(source, "good.ndjson")["state"] == "committed"
        wait_for("the message to be given up", lambda: deployment.waiting("drop_dead") == dead + 1, 120)
    deployment.take_out_dead_letters()


@pytest.mark.once
def test_a_redrive_after_the_cause_is_mended_loses_nothing(api: Api, deployment: Deployment, source: str) -> None:
    dead = deployment.waiting("drop_dead")
    with deployment.impatient("drop", 1):
        with deployment.environment("ingest_drop", TARN_STORE="s3://there-is-no-such-bucket"):
            deployment.drop(source, "late.ndjson", ndjson(range(30)))
            wait_for("the event to be given up", lambda: deployment.waiting("drop_dead") == dead + 1, 180)
        assert deployment.deltas(source) == []
    deployment.redrive()
    assert api.settled(source, "late.ndjson")["state"] == "committed"
    assert api.exported(source) == list(range(30))
    assert len(deployment.deltas(source)) == 1
    deployment.all_events_taken()
    assert deployment.waiting("drop_dead") == dead


@pytest.mark.once
def test_writers_in_many_functions_lose_and_repeat_nothing(
    api: Api, deployment: Deployment, source: str, pytestconfig: pytest.Config
) -> None:
    """Uploads over HTTP, dropped files, builds and searches, all at once."""
    writers, batches, size = (3, 3, 20) if pytestconfig.getoption("quick") else (4, 6, 20)
    stop = threading.Event()

    def upload(writer: int) -> None:
        own = api.again()
        for batch in range(batches):
            first = (writer * batches + batch) * size
            own.upload(source, points(range(first, first + size)))
            # Read your writes, whatever the builder is doing.
            assert own.search(source, first) == [first]

    def drop(writer: int) -> None:
        for batch in range(batches):
            first = 100_000 + (writer * batches + batch) * size
            deployment.drop(source, f"{writer}-{batch}.ndjson", ndjson(range(first, first + size)))

    def search() -> None:
        assert searcher.search(source, 999_999) == [999_999]

    def repeat(work: Callable[[], object]) -> int:
        """How often it was done."""
        times = 0
        while not stop.is_set():
            work()
            times += 1
        return times

    searcher = api.again()
    api.upload(source, [point(999_999)])
    with ThreadPoolExecutor(2 * writers + 2) as pool:
        background = [pool.submit(repeat, work) for work in (deployment.build, search)]
        try:
            for future in [pool.submit(work, writer) for work in (upload, drop) for writer in range(writers)]:
                future.result(300)
            for writer in range(writers):
                for batch in range(batches):
                    assert api.settled(source, f"{writer}-{batch}.ndjson", 180)["state"] == "committed"
        finally:
            stop.set()
        for future in background:
            assert future.result(120) > 0
    uploaded = list(range(writers * batches * size))
    assert api.exported(source) == uploaded + [100_000 + number for number in uploaded] + [999_999]
    # Every upload and every file is one delta: nothing was committed twice.
    assert len(deployment.deltas(source)) == 1 + 2 * writers * batches
    assert deployment.keys(f"indices/{source}/1.0/manifests/"), "nothing was built while all this went on"
    assert api.search(source, 999_999) == [999_999]


def test_a_new_delta_is_built_without_being_asked(api: Api, deployment: Deployment, source: str) -> None:
    api.upload(source, points(range(10)))
    wait_for("a manifest", lambda: deployment.keys(f"indices/{source}/1.0/manifests/"), 90, every=0.5)


def test_a_large_build_by_the_state_machine(api: Api, deployment: Deployment, source: str) -> None:
    sharded = f"{source}-sharded"
    api.create_index(sharded, source=source, shards=4)
    steps = deployment.stack.client("stepfunctions")
    # Or the builder's own run would be first, and leave nothing to do.
    with deployment.without_debounced_builds():
        api.upload(source, points(range(3_000)))
        run = steps.start_execution(stateMachineArn=deployment.outputs["state_machine"])["executionArn"]

        def ended() -> dict | None:
            found = steps.describe_execution(executionArn=run)
            return found if found["status"] != "RUNNING" else None

        found = wait_for("the state machine", ended, 180, every=0.5)
    assert found["status"] == "SUCCEEDED", found
    answer = json.loads(found["output"])
    assert answer["failures"] == []
    for index in (source, sharded):
        manifests = [line for line in answer["published"] if index in line and "manifest 1 " in line]
        assert len(manifests) >= 1, answer
        assert api.count(index) == 3_000
        assert api.search(index, 2_500) == [2_500]
    # The order, and what each of several tasks has built.
    assert len(deployment.keys(f"indices/{sharded}/1.0/builds/")) > 2
