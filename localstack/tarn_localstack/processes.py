"""Starting servers and ending them by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from .waiting import TimedOut, wait_for


class DidNotStart(RuntimeError):
    """A server ended, or did not answer, before it was ready."""


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that it outlives this one; its output goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def start_server(
    name: str, command: list[str], environment: dict[str, str], log: Path, answers: Callable[[], bool], seconds: float
) -> tuple[int, int]:
    """The pid and the start time of a server that answers. One that does not in time, or that nobody waits for any longer, is ended."""
    server = start(command, environment, log)
    started = started_at(server.pid)

    def ready() -> bool:
        if server.poll() is not None:
            raise TimedOut(f"it ended with status {server.returncode}")
        return answers()

    try:
        wait_for(f"{name} to answer", ready, seconds)
    except BaseException as error:
        if started is not None:
            end(server.pid, started)
        if isinstance(error, TimedOut):
            raise DidNotStart(f"{name} did not start ({error}); the end of {log}:\n{tail(log)}") from error
        raise
    assert started is not None, "it answered"
    return server.pid, started


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


def listening(pid: int) -> set[str]:
    """The addresses of this machine at which a process takes connections."""
    sockets = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[column] for column in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in sockets:
                # Words in the order of the processor's bytes.
                words = bytes.fromhex(local.split(":")[0])
                found.add(socket.inet_ntop(family, b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))))
    return found


def of_functions(endpoint: str) -> dict[int, str]:
    """The processes of one emulator's Lambda functions, whichever emulator that is, with the function: their environments tell."""
    emulator, named = f"AWS_ENDPOINT_URL={endpoint}".encode(), b"AWS_LAMBDA_FUNCTION_NAME="
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            settings = (entry / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        name = next((setting.removeprefix(named) for setting in settings if setting.startswith(named)), None)
        if name is not None and emulator in settings:
            found[int(entry.name)] = name.decode()
    return found


def of_function(function: str, endpoint: str) -> list[int]:
    """Those that run the function's own code, and not what starts it."""
    return [pid for pid, name in of_functions(endpoint).items() if name == function and _program(pid) == "bootstrap"]


def end_functions(endpoint: str) -> None:
    """Ends what an emulator that had to be killed could not end itself."""
    for pid in of_functions(endpoint):
        if started := started_at(pid):
            end(pid, started, seconds=1)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
