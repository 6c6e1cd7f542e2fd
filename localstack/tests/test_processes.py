"""Ending processes: the right ones, wholly, and never another's."""

import os
import sys
from pathlib import Path

import pytest
from tarn_localstack import environments, processes
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
    assert environments.find_python() == Path(sys.executable)


def test_what_is_no_python_has_no_version(tmp_path: Path) -> None:
    assert environments.version_of(Path(sys.executable)) == sys.version_info[:2]
    assert environments.version_of(Path("/bin/false")) == (0,)
