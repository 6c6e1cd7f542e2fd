"""Each row of the documents for those who come from Vektonn and from Veri: its example is run, and prints what it says."""

import pathlib
import re
import types

import pytest
from conftest import TarnServer, free_port
from documents import Document, Runner, differs

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [Document(ROOT / "docs" / name) for name in ("coming-from-vektonn.md", "coming-from-veri.md")]
ROWS = [
    pytest.param(document, row, id=f"{document.path.stem}-{row.line}-{re.sub(r'[^A-Za-z0-9]+', '-', row.name).strip('-')}")
    for document in DOCUMENTS
    for row in document.rows
]
EXAMPLES = [
    pytest.param(document, example, id=f"{document.path.stem}-{example.anchor}")
    for document in DOCUMENTS
    for example in document.examples
]


@pytest.fixture(scope="module")
def runners(place, directory):
    """For each document a server and store of its own. Builds of it are made when an example asks for one, and at no other moment."""
    runners, servers = {}, []
    try:
        for document in DOCUMENTS:
            store, environment = place(document.path.stem)
            servers.append(TarnServer(store, directory, environment, ["--build-interval", "1h"]))
            runners[document.path] = Runner(document, servers[-1], directory / f"{document.path.stem}-folder", free_port)
        yield runners
    finally:
        for server in servers:
            server.stop()


@pytest.mark.parametrize("document, example", EXAMPLES)
def test_example(runners, document, example):
    runners[document.path].run(example)


@pytest.mark.parametrize("document, row", ROWS)
def test_row(runners, document, row):
    """The row names an example, or a test of this suite, and it passes."""
    assert row.links, f"{document.path.name}:{row.line} names no example"
    for link in row.links:
        path, _, name = link.rpartition("#")
        if path:
            tests = (document.path.parent / path).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in tests, f"{document.path.name}:{row.line}: no test {name} in {path}"
            continue
        [example] = [example for example in document.examples if example.anchor == name] or [None]
        assert example is not None, f"{document.path.name}:{row.line} names {link}, which is no example"
        runners[document.path].run(example)


@pytest.mark.parametrize("document, example", EXAMPLES)
def test_examples_say_what_they_print_and_are_named(document, example):
    assert any(step.expected for step in example.steps), f"{example.title}: says nothing about what it prints"
    assert any(f"#{example.anchor}" in row.links for row in document.rows), f"{example.title}: no row names it"


@pytest.mark.parametrize(
    "kind, expected, printed, same",
    [
        ("json", '{"a": 1}', '{"a": 1.0000001, "b": 2}', True),
        ("json", '{"a": 1}', '{"a": 1.001}', False),
        ("json", '{"a": 1}', '{"b": 1}', False),
        ("json", '{"a": 1}', '{"a": true}', False),
        ("json", '["x", "…"]', '["x", "y", "z"]', True),
        ("json", '["x"]', '["x", "y"]', False),
        ("json", '["x", "y"]', '["x"]', False),
        ("json", '{"a": "…"}', '{"a": [1]}', True),
        ("json", "{}", "no JSON", False),
        ("text", "a … c\n", "a b c\n", True),
        ("text", "a …\nd\n", "a b\nc\nd\n", False),
        ("text", "a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("text", "a\n", "a\nb\n", False),
        ("text", "a.c\n", "abc\n", False),
    ],
)
def test_what_counts_as_the_same(kind, expected, printed, same):
    assert (differs(kind, expected, printed) is None) == same


def test_servers_of_examples_leave_building_to_the_examples():
    for document in DOCUMENTS:
        for example in document.examples:
            for line in "\n".join(step.code for step in example.steps).splitlines():
                if line.startswith("tarn serve ") and "--store " not in line:
                    assert "--no-build" in line, f"{document.path.name} ({example.title}): {line}"


def test_python_that_does_not_end_is_the_fault_of_its_example(tmp_path, monkeypatch):
    monkeypatch.setattr("documents.SECONDS_MAX", 0.1)
    document = parsed(tmp_path, "### A\n```python\nwhile True:\n    pass\n```\n")
    server = types.SimpleNamespace(port=0, environment={}, store="")
    with pytest.raises(AssertionError, match="TimeoutError"):
        Runner(document, server, tmp_path / "folder", free_port).run(document.examples[0])


def parsed(folder, text: str) -> Document:
    path = folder / "document.md"
    path.write_text(text, encoding="utf-8")
    return Document(path)


def test_rows_and_examples_are_what_a_document_says(tmp_path):
    document = parsed(
        tmp_path,
        "# A\n| x | y |\n|---|---|\n| `a\\|b` | [one](#b-c) |\n| d | nothing |\n\n### B: c\n```sh\ntrue\n```\n```text\n```\n```python\nprint(1)\n```\n",
    )
    assert [(row.name, row.links, row.line) for row in document.rows] == [("`a\\|b`", ["#b-c"], 4), ("d", [], 5)]
    [example] = document.examples
    assert (example.title, example.anchor) == ("B: c", "b-c")
    assert [(step.language, step.code, step.line, step.expected) for step in example.steps] == [
        ("sh", "true\n", 9, ("text", "")), ("python", "print(1)\n", 14, None),
    ]


@pytest.mark.parametrize("text", ["```yaml\na: 1\n```\n", "```\na\n```\n", "```text\na\n```\n", "```sh\ntrue\n"])
def test_blocks_that_would_not_be_run_are_refused(tmp_path, text):
    with pytest.raises(AssertionError):
        parsed(tmp_path, f"### A\n{text}")


def test_rows_that_are_in_no_table_are_refused(tmp_path):
    with pytest.raises(AssertionError):
        parsed(tmp_path, "| a | b |\n|---|---|\n| c | d |\n\n| e | f |\n\ntext\n")
