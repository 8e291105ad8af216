"""What other packages bring, by entry point: looked up by name, loaded, and told when broken."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint
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
