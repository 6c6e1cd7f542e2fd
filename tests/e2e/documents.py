"""Runs the examples of a document: what a reader would paste, against a running server, with what it should print.

An *example* is a section of the document. Its `sh` and `python` blocks are run from top to bottom in one folder, those of
earlier sections first: `sh` with bash, and the commands of a real `tarn`; `python` in this process, where all blocks of a
document share their names. A `json` or `text` block says what the block before it prints:

* `json`: an object may have more fields than are shown; a list has as many elements; `"…"` is any value, and the last
  element `"…"` of a list any number of them.
* `text`: `…` is anything within a line, and a line of its own any lines.

Every other kind of block is refused, since nobody would notice that it is wrong.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

RUN = ("sh", "python")
EXPECTED = ("json", "text")
SECONDS_MAX = 120
ANY = "…"


@dataclasses.dataclass
class Step:
    """A block that is run, and what it is said to print."""

    language: str
    code: str
    line: int
    expected: "tuple[str, str] | None" = None


@dataclasses.dataclass
class Row:
    """A row of a table: what somebody is used to, and where its example is."""

    name: str
    links: "list[str]"
    line: int


@dataclasses.dataclass
class Example:
    title: str
    anchor: str
    steps: "list[Step]"


class Document:
    """A parsed document: its rows and examples."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.rows: "list[Row]" = []
        self.examples: "list[Example]" = []
        section, fence, block, lines_of_table = Example("", "", []), None, [], 0
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if fence is not None:
                if line == "```":
                    self._block(section, fence, "".join(f"{each}\n" for each in block), number - len(block))
                    fence = None
                else:
                    block.append(line)
            elif line.startswith("```"):
                fence, block = line[3:].strip(), []
            elif line.startswith("#"):
                title = line.lstrip("#").strip()
                section = Example(title, anchor(title), [])
                self.examples.append(section)
            elif line.startswith("|"):
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                lines_of_table += 1
                if lines_of_table == 2:
                    assert set("".join(cells)) <= set("-:"), f"{path.name}:{number}: a table that has no head"
                elif lines_of_table > 2:
                    self.rows.append(Row(cells[0], re.findall(r"\]\(([^)]+)\)", cells[-1]), number))
            if not line.startswith("|"):
                assert lines_of_table != 1, f"{path.name}:{number}: a table that has no head"
                lines_of_table = 0
        assert fence is None, f"{path.name}: the last block has no end"
        self.examples = [example for example in self.examples if example.steps]

    def _block(self, section: Example, language: str, text: str, line: int):
        where = f"{self.path.name}:{line}"
        if language in RUN:
            section.steps.append(Step(language, text, line))
        elif language in EXPECTED:
            assert section.steps and section.steps[-1].expected is None, f"{where}: says what nothing prints"
            section.steps[-1].expected = (language, text)
        else:
            raise AssertionError(f"{where}: a block of {language or 'nothing in particular'} would not be run")


@contextlib.contextmanager
def within(seconds: float):
    """Raises TimeoutError in what takes longer; of the main thread only."""

    def late(_number, _frame):
        raise TimeoutError(f"it has not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def anchor(title: str) -> str:
    """The anchor that a heading has in rendered Markdown."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


class Runner:
    """Runs a document's examples once, in order, as far as somebody asks."""

    def __init__(self, document: Document, server, folder: pathlib.Path, free_port):
        self.document = document
        self.folder = folder
        self.names = {"__name__": document.path.stem}
        self.outcomes: "dict[str, str | None]" = {}
        self.ports = {"8081": str(server.port)}
        self.free_port = free_port
        commands = folder / "bin"
        commands.mkdir(parents=True)
        (commands / "tarn").symlink_to(pathlib.Path(os.environ["TARN_BIN"]).resolve())
        self.environment = {
            **server.environment, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "TARN_STORE": server.store, "LC_ALL": "C.UTF-8",
        }

    def run(self, example: Example):
        """Runs the examples up to this one, if they have not been; raises what this one did wrong."""
        for each in self.document.examples:
            if each.anchor not in self.outcomes:
                self.outcomes[each.anchor] = self._try(each)
            if each is example:
                break
        fault = self.outcomes[example.anchor]
        assert fault is None, fault

    def _try(self, example: Example) -> "str | None":
        for step in example.steps:
            where = f"{self.document.path.name}:{step.line} ({example.title})"
            try:
                printed = self._python(step) if step.language == "python" else self._sh(step)
            except Exception as error:  # noqa: BLE001: whatever an example raises is its fault
                return f"{where}: {error!r}"
            if step.expected is not None:
                fault = differs(*step.expected, printed)
                if fault:
                    return f"{where}: {fault}\nprinted:\n{printed}"
        return None

    def _here(self, code: str) -> str:
        """The code with the addresses that servers have here."""

        def port(found):
            if found[2] not in self.ports:
                self.ports[found[2]] = str(self.free_port())
            return f"127.0.0.1:{self.ports[found[2]]}"

        return re.sub(r"(localhost|127\.0\.0\.1):(80\d\d)\b", port, code)

    def _python(self, step: Step) -> str:
        code = compile("\n" * (step.line - 1) + self._here(step.code), str(self.document.path), "exec")
        with within(SECONDS_MAX), contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.names)  # noqa: S102: running the document is the point
        return printed.getvalue()

    def _sh(self, step: Step) -> str:
        # Interactive shells do not stop at a command that fails; a reader would.
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", self._here(step.code)], cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        try:
            printed, complaints = process.communicate(timeout=SECONDS_MAX)
        finally:
            # Servers that an example started are of its session, and end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, f"status {process.returncode}\n{printed}\n{complaints}"
        return printed


def differs(kind: str, expected: str, printed: str) -> "str | None":
    """What is not as it is said, if anything."""
    if kind == "text":
        pattern = "".join(
            r"(?:.*\n)*?" if line.strip() == ANY else ".*?".join(re.escape(part) for part in line.split(ANY)) + r"[ \t]*\n"
            for line in expected.splitlines()
        )
        text = printed if printed.endswith("\n") or not printed else printed + "\n"
        text = text.replace("\r\n", "\n")
        return None if re.fullmatch(pattern, text) else f"this is not what it prints:\n{expected}"
    try:
        actual = json.loads(printed)
    except ValueError as error:
        return f"it prints no JSON: {error}"
    return differs_json(json.loads(expected), actual, "$")


def differs_json(expected, actual, path: str) -> "str | None":
    """Where an answer is not the expected one, if anywhere."""
    if expected == ANY:
        return None
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return f"{path} is no object"
        for key, value in expected.items():
            if key not in actual:
                return f"{path} has no {key}"
            fault = differs_json(value, actual[key], f"{path}.{key}")
            if fault:
                return fault
        return None
    if isinstance(expected, list):
        if not isinstance(actual, list):
            return f"{path} is no list"
        open_end = bool(expected) and expected[-1] == ANY
        shown = expected[:-1] if open_end else expected
        if len(actual) < len(shown) or (len(actual) > len(shown) and not open_end):
            return f"{path} has {len(actual)} elements, not {len(shown)}"
        for at, value in enumerate(shown):
            fault = differs_json(value, actual[at], f"{path}[{at}]")
            if fault:
                return fault
        return None
    if isinstance(expected, bool) or isinstance(actual, bool) or not isinstance(expected, (int, float)):
        return None if type(expected) is type(actual) and expected == actual else f"{path} is {actual!r}, not {expected!r}"
    if not isinstance(actual, (int, float)) or abs(expected - actual) > 1e-5 * max(1.0, abs(expected)):
        return f"{path} is {actual!r}, not {expected!r}"
    return None
