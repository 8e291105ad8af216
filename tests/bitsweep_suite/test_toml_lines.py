"""The line of a key: for tables, arrays of tables, dotted, quoted and inline keys."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.toml_lines import KeyPath, key_lines, key_text, line_of

TEXT = """# a comment with [a.table] and key = 1
name = "x"  # [not.a.table]
question = \"\"\"
[task]
name = "inside"
a quote \\\"\"\" and more\"\"\"
literal = '''
[[arms]]
'''
dotted.inner.key = 1
"quoted key" = 2
'literal.key' = 3

[task]
start = { method = "fp32", parameters = { learning_rate = 1 } }
bits = [2,
    # two more
    "w3a3", [4,
    5],
]

[ spaced . "header.with.dots" ]
deep = 1

[[arms]]
name = "a"
[arms.space]
lr = { uniform = [1, 2] }

[[arms]]
[arms.space.lr]
choice = ["]", "}", "#"]
[[arms.extra]]
[[arms.extra]]
last = 1979-05-27T07:32:00Z
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("question",), 3),
        (("literal",), 7),
        (("dotted",), 10),
        (("dotted", "inner", "key"), 10),
        (("quoted key",), 11),
        (("literal.key",), 12),
        (("task",), 14),
        (("task", "start", "method"), 15),
        (("task", "start", "parameters", "learning_rate"), 15),
        (("task", "bits"), 16),
        (("task", "bits", 0), 16),
        (("task", "bits", 1), 18),
        (("task", "bits", 2, 1), 19),
        (("spaced", "header.with.dots", "deep"), 23),
        (("arms",), 25),
        (("arms", 0), 25),
        (("arms", 0, "name"), 26),
        (("arms", 0, "space"), 27),
        (("arms", 0, "space", "lr", "uniform", 1), 28),
        (("arms", 1), 30),
        (("arms", 1, "space", "lr"), 31),
        (("arms", 1, "space", "lr", "choice", 2), 32),
        (("arms", 1, "extra", 1), 34),
        (("arms", 1, "extra", 1, "last"), 35),
    ],
)
def test_a_key_stands_on_its_line(path: KeyPath, line: int) -> None:
    assert key_lines(TEXT)[path] == line


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\nb = 2\r\n")[("b",)] == 2


def test_a_key_that_is_missing_is_looked_for_in_the_table_around_it() -> None:
    assert line_of(("task", "data"), key_lines(TEXT)) == 14


def test_nothing_known_is_line_1() -> None:
    assert line_of(("nowhere",), key_lines(TEXT)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("arms", 0, "space"), "arms[0].space"),
        (("a key", "b\nc"), '"a key"."b\\nc"'),
        (("gr\u00f6\u00dfe",), '"gr\\u00f6\\u00dfe"'),
        ((), "the file"),
    ],
)
def test_a_key_reads_as_it_is_written_and_on_one_line(path: KeyPath, text: str) -> None:
    assert key_text(path) == text


def paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Every key and element below a value."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    found = [(*path, name) for name, _ in inside]
    for name, one in inside:
        found += paths(one, (*path, name))
    return found


names = st.text(st.characters(codec="ascii", exclude_characters="\x7f"), min_size=1, max_size=4)
scalars = st.integers(-99, 99) | st.booleans() | names


def literal(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(literal(one) for one in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{quoted(name)} = {literal(one)}" for name, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    return str(value)


def quoted(text: str) -> str:
    """A basic string."""
    return '"' + "".join(f"\\u{ord(one):04x}" if not one.isalnum() else one for one in text) + '"'


values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, values, max_size=4))
def test_every_key_of_any_document_has_its_line(document: dict[str, Any]) -> None:
    text = "".join(f"{quoted(name)} = {literal(value)}\n" for name, value in document.items())
    lines = key_lines(text)

    assert tomllib.loads(text) == document
    for path in paths(document):
        assert lines[path] == list(document).index(str(path[0])) + 1
