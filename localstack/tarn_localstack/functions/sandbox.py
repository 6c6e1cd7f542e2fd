"""How a function's process is started: in its code's folder, with a `/tmp` of its own where the machine allows that.

With `unshare` (root, or user namespaces) the process gets a mount namespace whose `/tmp` is a tmpfs of the function's
ephemeral storage: functions do not see each other's files, and one that writes too much fails as it would in Lambda.
Without, they share `/tmp`. Memory is limited only on request: the limit is of private writable memory, while Lambda's is of
resident memory.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The code moves first, because it may well be below the /tmp that is about to be hidden. Lambda has it in /var/task, which
# other machines lack; /mnt is everywhere and, in this namespace, nobody else's.
TASK_ROOT = "/mnt"
_ISOLATED = (
    f'mount --bind "$1" {TASK_ROOT} && mount -o remount,bind,ro {TASK_ROOT} && '
    f'mount -t tmpfs -o "size=$2m,mode=1777" tmpfs /tmp && cd {TASK_ROOT} && exec ./bootstrap'
)


@dataclass(frozen=True)
class Limits:
    storage_mib: int = 512
    memory_mib: int | None = None


@functools.cache
def unshare_command() -> tuple[str, ...] | None:
    """The form of `unshare` that works on this machine."""
    for command in (("unshare", "-m"), ("unshare", "-rm")):
        if shutil.which("unshare") and subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True).returncode == 0:
            return command
    return None


def command(code: Path, limits: Limits) -> list[str]:
    """What to run, from any folder."""
    bootstrap = code / "bootstrap"
    if not bootstrap.is_file():
        raise FileNotFoundError(f"the package has no `bootstrap`: {code}")
    limited = ["prlimit", f"--data={limits.memory_mib << 20}"] if limits.memory_mib else []
    if unshare := unshare_command():
        return [*unshare, *limited, "sh", "-c", _ISOLATED, "sh", str(code), str(limits.storage_mib)]
    return [*limited, "sh", "-c", 'cd "$1" && exec ./bootstrap', "sh", str(code)]


def environment(settings: dict[str, str], runtime_api: str) -> dict[str, str]:
    """The process sees what Lambda would show it, and nothing of the emulator's own environment."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        **settings,
        **({"LAMBDA_TASK_ROOT": TASK_ROOT} if unshare_command() else {}),
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
    }


def make_executable(code: Path) -> None:
    """Zips made without Unix modes lose the bit."""
    bootstrap = code / "bootstrap"
    if bootstrap.is_file() and not os.access(bootstrap, os.X_OK):
        bootstrap.chmod(0o755)
