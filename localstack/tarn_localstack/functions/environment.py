"""One execution environment: a process, its Runtime API, its log, and what happens when it dies or takes too long."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from . import sandbox
from .runtime_api import Invocation, Outcome, RuntimeApi

# Lambda gives a function's initialisation ten seconds.
INIT_SECONDS = 10.0
_LINES = 10_000


@dataclass(frozen=True)
class Function:
    """What of a function's configuration its environment needs."""

    name: str
    arn: str
    code: Path
    timeout_s: float
    memory_mib: int
    limits: sandbox.Limits
    version: str = "$LATEST"


class Environment:
    """Runs invocations one at a time. A process that died is replaced at the next invocation, as Lambda does."""

    def __init__(self, function: Function, settings: dict[str, str]) -> None:
        self.function = function
        self._settings = settings
        self._api = RuntimeApi(function.name, function.version)
        self._log = _Log()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._init_ms: float | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> Outcome | None:
        """Starts the process and waits until it asks for work; an outcome says why it did not."""
        self._api.reset()
        self._log.clear()
        began = time.monotonic()
        process = subprocess.Popen(
            sandbox.command(self.function.code, self.function.limits),
            env=sandbox.environment(self._settings, self._api.address),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that ending it ends its children.
            start_new_session=True,
        )
        self._process = process
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        if self._api.wait_idle(INIT_SECONDS):
            self._init_ms = (time.monotonic() - began) * 1000
            return None
        error = self._api.init_error or Outcome.error("Sandbox.Timedout", f"the bootstrap asked for no work within {INIT_SECONDS:g} s")
        self._end()
        return error

    def invoke(self, request_id: str, payload: bytes, trace_id: str = "") -> tuple[Outcome, str]:
        """The outcome, and the log as CloudWatch would get it."""
        outcome = self._ensure_started()
        init_ms, self._init_ms = self._init_ms, None
        began = time.monotonic()
        if outcome is None:
            outcome = self._run(request_id, payload, trace_id)
        return outcome, self._report(request_id, (time.monotonic() - began) * 1000, init_ms)

    def stop(self) -> None:
        self._stopped = True
        self._end()
        self._api.close()

    def _ensure_started(self) -> Outcome | None:
        if self._process is None or self._process.poll() is not None:
            return self.start()
        # An extension may still be at work after the last response; that counts against nobody's time-out but the function's.
        if not self._api.wait_idle(self.function.timeout_s):
            self._end()
            return self.start()
        return None

    def _run(self, request_id: str, payload: bytes, trace_id: str) -> Outcome:
        timeout = self.function.timeout_s
        deadline_ms = int((time.time() + timeout) * 1000)
        invocation = Invocation(request_id, payload, deadline_ms, self.function.arn, trace_id)
        self._api.submit(invocation)
        try:
            return invocation.outcome.result(timeout)
        except TimeoutError:
            outcome = Outcome.error("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {timeout:.2f} seconds")
            invocation.settle(outcome)
            self._end()
            return outcome

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while self._log.take_from(process.stdout.fileno(), seconds=1.0):
            pass
        status = process.wait()
        if process is self._process and not self._stopped:
            reason = f"signal: {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            self._api.fail(Outcome.error("Runtime.ExitError", f"Error: Runtime exited with error: {reason}"))

    def _end(self) -> None:
        process, self._process = self._process, None
        if process and process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def _report(self, request_id: str, ms: float, init_ms: float | None) -> str:
        process = self._process
        if process and process.stdout:
            # What was written before the response is in the pipe by now; what is not there yet belongs to nobody's report.
            while self._log.take_from(process.stdout.fileno(), seconds=0):
                pass
        lines = [f"START RequestId: {request_id} Version: {self.function.version}", *self._log.clear(), f"END RequestId: {request_id}"]
        report = f"REPORT RequestId: {request_id}\tDuration: {ms:.2f} ms\tBilled Duration: {int(ms) + 1} ms\tMemory Size: {self.function.memory_mib} MB"
        return "\n".join([*lines, report + (f"\tInit Duration: {init_ms:.2f} ms" if init_ms else ""), ""])


class _Log:
    """The lines of a process, read from its pipe by whoever needs them first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = b""

    def take_from(self, pipe: int, seconds: float) -> bool:
        """Reads what is there, waiting at most so long. With no wait: whether anything was; else: whether there may be more."""
        ready, _, _ = select.select([pipe], [], [], seconds)
        with self._lock:
            # Somebody else may have read it in between.
            if not ready or not select.select([pipe], [], [], 0)[0]:
                return seconds > 0
            data = os.read(pipe, 65536)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(line.decode(errors="replace") for line in lines)
            return bool(data)

    def clear(self) -> list[str]:
        with self._lock:
            lines = list(self._lines) + ([self._rest.decode(errors="replace")] if self._rest else [])
            self._lines.clear()
            self._rest = b""
            return lines
