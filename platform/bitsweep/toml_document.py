"""A TOML text as a plain document, with the keys that a command line replaced; no meaning."""

import shlex
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

from bitsweep.errors import InputError


def load_toml(text: str) -> dict[str, Any]:
    """The document of a text; raise ValueError also where the parser gives up in other ways."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("tables or arrays are nested too deeply") from None


def override_key(document: dict[str, Any], override: str) -> None:
    """Apply "key.path=value" (value as TOML); raise InputError where there is no such place."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {override}: expected KEY=VALUE, such as task.epochs=4")
    try:
        parsed = load_toml(f"value = {value}")["value"]
    except ValueError:
        parsed = value
    table: Any = document
    names = key.strip().split(".")
    try:
        for name in names[:-1]:
            table = table[int(name)] if isinstance(table, list) else table.setdefault(name, {})
        table[int(names[-1]) if isinstance(table, list) else names[-1]] = parsed
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"--set {override}: there is no place {key!r} in the file") from error


def stored_document(text: str, command: str) -> dict[str, Any]:
    """The document of a sweep as it was run: its text with what the command's --set replaced.

    Raises ValueError for a text that is no TOML, which only other programs store.
    """
    document = load_toml(text)
    words = shlex.split(command)
    for option, override in pairwise(words):
        if option == "--set":
            override_key(document, override)
    return document


def stored_folder(command: str) -> Path:
    """The folder of the file that a command ran, "." where it names none."""
    match shlex.split(command):
        case ["bitsweep", "run", path, *_]:
            return Path(path).parent
    return Path()
