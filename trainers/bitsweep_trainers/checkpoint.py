"""Reading what a training saved, so that a damaged file is one line that says what to do."""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bitsweep.errors import InputError

# What torch.load was seen to raise for files that were cut or changed at random, and what a
# whole file raises that holds something else.
REFUSALS = (
    pickle.UnpicklingError,
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


def read_checkpoint(path: Path, *, holds: tuple[str, ...], remedy: str) -> dict[str, Any]:
    """The dictionary that lies at a path, its tensors on the CPU; nothing in it is executed.

    InputError with the remedy for a file that cannot be read, or lacks one of the keys.
    """
    try:
        with warnings.catch_warnings():  # of pickle's version, which bytes at random may name
            warnings.simplefilter("ignore")
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's advice, to run what is in it, is none here
        reason = "it is no checkpoint, or holds more than tensors"
        raise damaged(path, reason, remedy) from error
    except REFUSALS as error:
        raise damaged(path, first_sentence(error), remedy) from error
    missing = [one for one in holds if not isinstance(document, dict) or one not in document]
    if missing:
        raise damaged(path, f"it holds no {missing[0]}", remedy)
    return dict(document)


@contextmanager
def fitting(path: Path, *, remedy: str) -> Iterator[None]:
    """Make what a checkpoint holds but a network does not take an InputError with the remedy."""
    try:
        yield
    except REFUSALS as error:
        reason = f"what it holds does not fit the trial: {first_sentence(error)}"
        raise damaged(path, reason, remedy) from error


def damaged(path: Path, reason: str, remedy: str) -> InputError:
    """What to raise of a checkpoint."""
    return InputError(f"{path} is damaged or cut: {reason}; {remedy}")


def first_sentence(error: Exception) -> str:
    """What an exception says, up to the end of its first sentence."""
    line = (str(error).splitlines() or [""])[0].partition(". ")[0].rstrip(" .:;")
    return line or type(error).__name__
