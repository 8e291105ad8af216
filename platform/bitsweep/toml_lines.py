"""On which line of a TOML file a key stands: the parser of the standard library does not tell.

Reads text that this parser has accepted; what comes of other text means nothing.
"""

import json
import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:""?)?'
    r"|'''.*?'''(?:''?)?"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table, every key and every element of an array.

    >>> key_lines('a = 1\\n[[arms]]\\n[arms.space]\\nlr = {low = 2}')["arms", 0, "space", "lr"]
    4
    """
    scanner = _Scanner(text)
    scanner.read()
    return scanner.lines


class _Scanner:
    """A position in the text, and the lines found before it."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._breaks = [at for at, letter in enumerate(text) if letter == "\n"]
        self._counts: dict[KeyPath, int] = {}

    def read(self) -> None:
        """Go through the whole text."""
        table: KeyPath = ()
        while self._peek():
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _peek(self) -> str:
        """The next letter after blanks and comments, or "" at the end."""
        self._skip(_BLANK)
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise AssertionError("text that the parser of TOML refuses")
        self._at = found.end()
        return found[0]

    def _note(self, path: KeyPath) -> None:
        """This line for the path, and for the tables around it that have none."""
        line = bisect_right(self._breaks, self._at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._at)
        width = 2 if is_array else 1
        self._at += width
        names = self._names()
        path: KeyPath = ()
        for index, name in enumerate(names):
            path = (*path, name)
            if is_array and index == len(names) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        self._note(path)
        self._at += width
        return path

    def _names(self) -> list[str]:
        """A key with dots between its parts; ends before the = or the ]."""
        names = []
        while True:
            if self._peek() in {'"', "'"}:
                names.append(str(tomllib.loads(f"key = {self._skip(_STRING)}")["key"]))
            else:
                names.append(self._skip(_BARE_KEY))
            if self._peek() != ".":
                return names
            self._at += 1

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = (*table, *self._names())
        after, self._at = self._at, start
        self._note(path)
        self._at = after + 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        first = self._peek()
        if first in {'"', "'"}:
            self._skip(_STRING)
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_PLAIN_VALUE)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._peek() != "]":
            if self._peek() == ",":
                self._at += 1
                continue
            self._note((*path, index))
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._peek() != "}":
            if self._peek() == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1


def line_of(path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """The line of a key, or of the nearest table around it; 1 when nothing is known."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


def key_text(path: KeyPath) -> str:
    """A key as a reader writes it: `arms[0].space.learning_rate`; quoted where TOML wants it."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = part if _BARE_KEY.fullmatch(part) else json.dumps(part)
        text += f".{name}" if text else name
    return text or "the file"
