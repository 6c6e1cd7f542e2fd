"""Starting servers and ending them by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from .waiting import wait_for


class DidNotStart(RuntimeError):
    """A server ended, or did not answer, before it was ready."""


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that it outlives this one; its output goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def started_at(pid: int) -> int | None:
    """The start time of a live process in clock ticks after boot; None when there is none, or only its remains."""
    try:
        # The name is in parentheses and may hold anything, also spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def end(pid: int, started: int, seconds: float = 15) -> bool:
    """Ends a process, and its group if it leads one. Whether there was anything to end; never another's process."""
    if started_at(pid) != started:
        return False
    group = os.getpgid(pid) == pid
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(pid, number) if group else os.kill(pid, number)
            wait_for(f"the end of process {pid}", lambda: _gone(pid, started), patience)
            return True
        except ProcessLookupError:
            return True
        except AssertionError:
            continue
    raise RuntimeError(f"process {pid} does not end")


def _gone(pid: int, started: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return started_at(pid) != started


def tail(log: Path, lines: int = 40) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def of_function(function: str, endpoint: str) -> list[int]:
    """The processes that run a Lambda function in one emulator, whichever emulator that is: their environments tell."""
    wanted = {f"AWS_LAMBDA_FUNCTION_NAME={function}".encode(), f"AWS_ENDPOINT_URL={endpoint}".encode()}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")) and (entry / "comm").read_text().strip() == "bootstrap":
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
