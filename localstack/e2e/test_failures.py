"""Functions that die, messages that nobody can process, and many writers at once."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from api import Api, Deployment
from points import ndjson, point, points
from tarn_localstack.waiting import wait_for


def test_a_function_killed_half_way_finishes_the_file_once(api: Api, deployment: Deployment, source: str) -> None:
    rows = 60_000
    with deployment.impatient("drop", 5):
        before = set(deployment.processes("ingest_drop"))
        deployment.drop(source, "killed.ndjson", ndjson(range(rows)))
        killed: list[int] = []

        def kill() -> bool:
            """Kills whoever works on the file, as soon as it has begun."""
            drop = api.drops(source).get("killed.ndjson")
            if drop and drop["state"] == "committed":
                return True
            if drop and drop["state"] == "running" or set(deployment.processes("ingest_drop")) - before:
                for pid in deployment.processes("ingest_drop"):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            return bool(killed)

        wait_for("the function to be at work", kill, 60, every=0.02)
        drop = api.settled(source, "killed.ndjson", 180)
    assert killed, "the file was done before the function could be killed: make it larger"
    assert drop["state"] == "committed" and drop["rowsCommitted"] == rows, drop
    # Each sequence once: what was appended before the kill was not appended again.
    assert len(drop["sequences"]) == len(set(drop["sequences"])) == len(deployment.deltas(source))
    deployment.build()
    assert api.count(source) == rows


def test_a_builder_killed_half_way_harms_nothing(api: Api, deployment: Deployment, source: str) -> None:
    api.upload(source, points(range(5_000)))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(deployment.invoke, "builder", {"task": "run"})

        def kill() -> bool:
            for pid in deployment.processes("builder"):
                os.kill(pid, signal.SIGKILL)
            return run.done() or bool(deployment.processes("builder"))

        wait_for("the builder to be at work", kill, 30, every=0.01)
        run.result(120)
    assert api.search(source, 4_321) == [4_321]
    deployment.build()
    assert api.count(source) == 5_000
    assert api.search(source, 4_321) == [4_321]


def test_a_poison_message_ends_in_the_dead_letter_queue(api: Api, deployment: Deployment, source: str) -> None:
    dead = deployment.waiting("drop_dead")
    with deployment.impatient("drop", 1):
        deployment.sqs.send_message(QueueUrl=deployment.queues["drop"], MessageBody="no notification of anything")
        # Others pass it by.
        deployment.drop(source, "good.ndjson", ndjson(range(10)))
        assert api.settled(source, "good.ndjson")["state"] == "committed"
        wait_for("the message to be given up", lambda: deployment.waiting("drop_dead") == dead + 1, 120)
    deployment.take_out_dead_letters()


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


def test_writers_in_many_functions_lose_and_repeat_nothing(api: Api, deployment: Deployment, source: str) -> None:
    """Uploads over HTTP, dropped files, builds and searches, all at once."""
    writers, batches, size = 4, 6, 20
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

    def repeat(work: Callable[[], object]) -> None:
        while not stop.is_set():
            work()

    api.upload(source, [point(999_999)])
    with ThreadPoolExecutor(2 * writers + 2) as pool:
        background = [
            pool.submit(repeat, deployment.build),
            pool.submit(repeat, lambda: api.again().search(source, 999_999)),
        ]
        try:
            for future in [pool.submit(work, writer) for work in (upload, drop) for writer in range(writers)]:
                future.result(300)
            for writer in range(writers):
                for batch in range(batches):
                    assert api.settled(source, f"{writer}-{batch}.ndjson", 180)["state"] == "committed"
        finally:
            stop.set()
        for future in background:
            future.result(120)
    uploaded = list(range(writers * batches * size))
    assert api.exported(source) == uploaded + [100_000 + number for number in uploaded] + [999_999]
    assert api.search(source, 999_999) == [999_999]


def test_a_new_delta_is_built_without_being_asked(api: Api, deployment: Deployment, source: str) -> None:
    api.upload(source, points(range(10)))
    wait_for("a manifest", lambda: deployment.keys(f"indices/{source}/1.0/manifests/"), 90, every=0.5)


def test_a_large_build_by_the_state_machine(api: Api, deployment: Deployment, source: str) -> None:
    api.upload(source, points(range(3_000)))
    steps = deployment.stack.client("stepfunctions")
    run = steps.start_execution(stateMachineArn=deployment.outputs["state_machine"])["executionArn"]

    def ended() -> dict | None:
        found = steps.describe_execution(executionArn=run)
        return found if found["status"] != "RUNNING" else None

    found = wait_for("the state machine", ended, 180, every=0.5)
    assert found["status"] == "SUCCEEDED", found
    assert deployment.keys(f"indices/{source}/1.0/manifests/")
    assert api.search(source, 2_500) == [2_500]
