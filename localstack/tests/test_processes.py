"""Ending processes: the right ones, wholly, and never another's."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tarn_localstack import environments, processes, terraform
from tarn_localstack.environments import NoPython
from tarn_localstack.processes import DidNotStart
from tarn_localstack.stack import NoStack, Stack
from tarn_localstack.waiting import TimedOut, wait_for

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def running(tmp_path: Path, code: str) -> tuple[int, int]:
    log = tmp_path / "log"
    process = processes.start([sys.executable, "-c", code], dict(os.environ), log)
    wait_for("it to be up", lambda: "up" in log.read_text(), 10)
    started = processes.started_at(process.pid)
    assert started is not None
    return process.pid, started


def test_a_process_is_ended(tmp_path: Path) -> None:
    pid, started = running(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
    assert processes.end(pid, started)
    assert processes.started_at(pid) is None
    assert not processes.end(pid, started), "there is nothing left to end"


def test_one_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    pid, started = running(tmp_path, STUBBORN)
    assert processes.end(pid, started, seconds=0.3)
    assert processes.started_at(pid) is None


def test_another_process_of_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    pid, started = running(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
    assert not processes.end(pid, started - 1)
    assert processes.started_at(pid) == started
    processes.end(pid, started)


def test_waiting_tells_what_it_saw_last() -> None:
    with pytest.raises(TimedOut, match="the moon: not within 0.1 s; last answer: ValueError"):
        wait_for("the moon", lambda: int("x"), 0.1, every=0.02)
    answers = iter([0, None, 7])
    assert wait_for("seven", lambda: next(answers), 5, every=0.001) == 7


def test_a_stack_is_remembered(tmp_path: Path) -> None:
    with pytest.raises(NoStack):
        Stack.load(tmp_path)
    stack = Stack("localstack", "http://127.0.0.1:4566", "test", "test", pid=1, started=2)
    stack.save(tmp_path)
    assert Stack.load(tmp_path) == stack
    assert stack.port == 4566


def test_a_named_python_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environments.VARIABLE, sys.executable)
    monkeypatch.setattr(environments, "MINIMUM", sys.version_info[:2])
    assert environments.find_python() == Path(sys.executable)


def test_what_is_no_python_has_no_version(tmp_path: Path) -> None:
    assert environments.version_of(Path(sys.executable)) == sys.version_info[:2]
    assert environments.version_of(Path("/bin/false")) == (0,)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """What was started."""
    started: list[subprocess.Popen[bytes]] = []
    start = processes.start

    def recorded(*arguments: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(processes, "start", recorded)
    return started


def test_a_server_that_does_not_answer_is_ended(tmp_path: Path, servers: list[subprocess.Popen[bytes]]) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with pytest.raises(DidNotStart, match="(?s)the server did not start.*\nup"):
        processes.start_server("the server", command, dict(os.environ), log, lambda: False, 1)
    assert [processes.started_at(server.pid) for server in servers] == [None]


def test_a_server_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no licence'); raise SystemExit(3)"]
    with pytest.raises(DidNotStart, match="(?s)ended with status 3.*\nno licence"):
        processes.start_server("the server", command, dict(os.environ), tmp_path / "log", lambda: False, 60)


def test_a_server_that_nobody_waits_for_is_ended(tmp_path: Path, servers: list[subprocess.Popen[bytes]]) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(KeyboardInterrupt):
        processes.start_server("the server", command, dict(os.environ), tmp_path / "log", interrupted, 60)
    assert [processes.started_at(server.pid) for server in servers] == [None]


def test_functions_are_ended_by_their_emulator(tmp_path: Path) -> None:
    def function(port: int) -> subprocess.Popen[bytes]:
        settings = {"AWS_LAMBDA_FUNCTION_NAME": "probe", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | settings)

    # No emulator has these ports.
    ours, anothers = function(1), function(2)
    try:
        assert processes.of_functions("http://127.0.0.1:1") == {ours.pid: "probe"}
        assert processes.of_function("probe", "http://127.0.0.1:1") == [], "it runs no bootstrap"
        processes.end_functions("http://127.0.0.1:1")
        assert ours.poll() is not None and anothers.poll() is None
    finally:
        for process in (ours, anothers):
            process.kill()
            process.wait()


def test_who_listens_where() -> None:
    with socket.socket() as everywhere, socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        here.listen()
        assert processes.listening(os.getpid()) == {"127.0.0.1"}
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        assert processes.listening(os.getpid()) == {"127.0.0.1", "0.0.0.0"}


@pytest.mark.parametrize("named", ["/there/is/no/such/python", "/bin/false"])
def test_a_named_python_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv(environments.VARIABLE, named)
    with pytest.raises(NoPython, match=named):
        environments.find_python()


def test_without_a_python_that_is_new_enough_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(environments.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(NoPython, match=f"3.12 or later.*{environments.VARIABLE}"):
        environments.find_python()


def test_without_terraform_the_error_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(terraform.TerraformFailed, match="not on PATH: https://"):
        terraform.program()
