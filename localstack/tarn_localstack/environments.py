"""The server's Python environment: LocalStack needs a newer Python and other libraries than everything else here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = PACKAGE_ROOT / "requirements-server.txt"
# LocalStack's code uses type parameters (PEP 695).
MINIMUM = (3, 12)
VARIABLE = "TARN_LOCALSTACK_SERVER_PYTHON"


class NoPython(RuntimeError):
    """No Python on this machine can run LocalStack."""


def find_python() -> Path:
    """The newest Python that is new enough, from PATH or pyenv; `TARN_LOCALSTACK_SERVER_PYTHON` overrides the search."""
    if named := os.environ.get(VARIABLE):
        if version_of(Path(named)) >= MINIMUM:
            return Path(named)
        raise NoPython(f"{VARIABLE} is {named}, which is no Python {MINIMUM[0]}.{MINIMUM[1]} or later")
    names = [f"python3.{minor}" for minor in (13, 12)] + ["python3"]
    found = [Path(path) for name in names if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found += sorted(pyenv.glob("3.1[23]*/bin/python3"), reverse=True)
    for path in found:
        if version_of(path) >= MINIMUM:
            return path
    raise NoPython(
        f"LocalStack needs Python {MINIMUM[0]}.{MINIMUM[1]} or later, and there is none on PATH or in {pyenv}; "
        f"install one, or name it in {VARIABLE}. MiniStack runs with this one."
    )


def version_of(python: Path) -> tuple[int, ...]:
    """(0,) for what is no working Python: pyenv leaves shims of versions that are not selected."""
    command = [str(python), "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return (0,)
    return tuple(int(part) for part in done.stdout.split()) if done.returncode == 0 else (0,)


def prepare(home: Path) -> Path:
    """A virtual environment with LocalStack in it, made once; gives its Python."""
    wanted = REQUIREMENTS.read_text()
    stamp, python = home / "installed.txt", home / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    base = find_python()
    print(f"preparing LocalStack's Python environment in {home}, once (about 330 MB)", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
    for command in ([str(base), "-m", "venv", str(home)], pip):
        if subprocess.run(command).returncode != 0:
            raise NoPython(f"`{' '.join(command)}` failed; another Python may be named in {VARIABLE}")
    stamp.write_text(wanted)
    return python
