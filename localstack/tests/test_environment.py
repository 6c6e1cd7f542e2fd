"""A function's process: what it is told, what happens when it dies, hangs or says too much."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tarn_localstack.functions.environment import Environment, Function
from tarn_localstack.functions.runtime_api import PAYLOAD_BYTES
from tarn_localstack.functions.sandbox import Limits, unshare_command
from tarn_localstack.waiting import wait_for

isolated = pytest.mark.skipif(unshare_command() is None, reason="this machine allows no mount namespaces")


@pytest.fixture
def environment(code: Path) -> Iterator[Environment]:
    function = Function("probe", "arn:probe", code, timeout_s=2, memory_mib=128, limits=Limits(storage_mib=8))
    made = Environment(function, {"AWS_LAMBDA_FUNCTION_NAME": "probe", "GREETING": "hello"})
    yield made
    made.stop()


def ask(environment: Environment, **event: object) -> tuple[dict, bool]:
    outcome, _ = environment.invoke("request", json.dumps(event).encode())
    return json.loads(outcome.body), outcome.is_error


def test_one_process_serves_many_invocations(environment: Environment) -> None:
    first, failed = ask(environment, do="answer", n=1)
    second, _ = ask(environment, do="answer", n=2)
    assert not failed and first["event"]["n"] == 1 and second["event"]["n"] == 2
    assert first["pid"] == second["pid"]
    assert 1_000 < first["left_ms"] <= 2_000


def test_the_log_is_that_of_the_invocation(environment: Environment) -> None:
    _, first = environment.invoke("one", b'{"n": 1}')
    _, second = environment.invoke("two", b'{"n": 2}')
    assert 'saw {"n": 1}' in first and "START RequestId: one" in first and "Init Duration" in first
    assert 'saw {"n": 2}' in second and 'saw {"n": 1}' not in second and "Init Duration" not in second


def test_an_error_of_the_function_is_an_error(environment: Environment) -> None:
    assert ask(environment, do="fail") == ({"errorType": "Wanted"}, True)
    assert ask(environment, do="answer")[1] is False


@pytest.mark.parametrize(("do", "reason"), [("exit", "exit status 3"), ("die", "signal: SIGKILL")])
def test_a_function_that_ends_is_replaced(environment: Environment, do: str, reason: str) -> None:
    before, _ = ask(environment)
    error, failed = ask(environment, do=do)
    assert failed and error["errorType"] == "Runtime.ExitError" and reason in error["errorMessage"]
    after, failed = ask(environment)
    assert not failed and after["pid"] != before["pid"]


def test_a_function_killed_while_idle_is_replaced(environment: Environment) -> None:
    before, _ = ask(environment)
    assert environment.pid is not None
    os.kill(environment.pid, 9)
    wait_for("its end", lambda: environment._process is None or environment._process.poll() is not None, 5)
    after, failed = ask(environment)
    assert not failed and after["pid"] != before["pid"]


def test_a_function_that_takes_too_long_is_ended(environment: Environment) -> None:
    began = time.monotonic()
    error, failed = ask(environment, do="hang")
    assert failed and "Task timed out after 2.00 seconds" in error["errorMessage"]
    assert time.monotonic() - began < 4
    assert ask(environment)[1] is False


def test_a_failed_initialisation_says_why(code: Path) -> None:
    function = Function("probe", "arn:probe", code, timeout_s=2, memory_mib=128, limits=Limits())
    environment = Environment(function, {"FAIL_INIT": "1"})
    try:
        error = environment.start()
        assert error is not None and json.loads(error.body) == {"errorType": "NoConfig"}
    finally:
        environment.stop()


def test_a_package_without_a_bootstrap_says_so(tmp_path: Path) -> None:
    environment = Environment(Function("probe", "arn:probe", tmp_path, 2, 128, Limits()), {})
    with pytest.raises(FileNotFoundError, match="bootstrap"):
        environment.start()
    environment.stop()


def test_a_response_that_lambda_would_refuse_is_refused(environment: Environment) -> None:
    error, failed = ask(environment, do="big", bytes=PAYLOAD_BYTES + 1)
    assert failed and error["errorType"] == "Function.ResponseSizeTooLarge"
    assert ask(environment)[1] is False


def test_the_process_sees_its_settings_and_nothing_else(environment: Environment) -> None:
    os.environ["A_SECRET_OF_THE_EMULATOR"] = "x"
    try:
        seen, _ = ask(environment, do="environment")
    finally:
        del os.environ["A_SECRET_OF_THE_EMULATOR"]
    assert seen["GREETING"] == "hello" and "A_SECRET_OF_THE_EMULATOR" not in seen and "HOME" not in seen


@isolated
def test_functions_do_not_share_tmp(code: Path, environment: Environment) -> None:
    ask(environment, do="write")
    other = Environment(Function("other", "arn:other", code, 2, 128, Limits()), {})
    try:
        assert ask(environment, do="look")[0] == {"there": True}
        assert ask(other, do="look")[0] == {"there": False}
    finally:
        other.stop()
    assert not Path("/tmp/left-behind").exists()


@isolated
def test_tmp_is_as_large_as_the_ephemeral_storage(environment: Environment) -> None:
    assert ask(environment, do="fill", bytes=4 << 20)[0] == {"fits": True}
    assert ask(environment, do="fill", bytes=16 << 20)[0]["fits"] is False


def test_stopping_ends_the_process(code: Path) -> None:
    environment = Environment(Function("probe", "arn:probe", code, 30, 128, Limits()), {})
    ask(environment)
    pid = environment.pid
    results: list[tuple[dict, bool]] = []
    hanging = threading.Thread(target=lambda: results.append(ask(environment, do="hang")), daemon=True)
    hanging.start()
    environment.stop()
    assert pid is not None
    wait_for("the process to be gone", lambda: not Path(f"/proc/{pid}").exists(), 5)
