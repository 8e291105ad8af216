"""What other packages bring, by entry point: looked up by name, loaded, and told when broken."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from bitsweep.errors import InputError, UnknownName, nearest

T = TypeVar("T")


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """What is known under the name; UnknownName with the nearest one if there is none."""
    if name not in known:
        hint = nearest(name, list(known))
        raise UnknownName(f"unknown {kind} {name!r}{hint}; known: {', '.join(sorted(known))}")
    return known[name]


def load(entry: EntryPoint) -> Any:  # a plug-in: anything may come
    """What an entry point names; InputError with the reason where that cannot be loaded."""
    try:
        return entry.load()
    except Exception as error:  # and anything may be raised
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the plug-in {entry.value!r} cannot be loaded: {reason}") from error


def check_function(name: str, *, num_arguments: int) -> None:
    """Raise InputError unless "module:function" names something that takes so many arguments.

    The module is imported: from the path, or from the folder that workers are started in.
    """
    expected = f"expected module:function, a function of {num_arguments} arguments"
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
        raise InputError(f"{name!r}: {expected}")
    with _folder_on_path():
        found = load(EntryPoint(name="", value=name, group=""))
    try:
        inspect.signature(found).bind(*[None] * num_arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name!r}: {expected}; this one cannot be called so: {error}") from error


@contextmanager
def _folder_on_path() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
