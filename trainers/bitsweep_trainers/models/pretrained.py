"""Weights from a file: torchvision's state dictionaries, or a checkpoint of this package."""

import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from bitsweep.declaration import Shape
from bitsweep.errors import InputError
from bitsweep_trainers.models.build import BUILDERS
from bitsweep_trainers.models.from_torchvision import renamed

HEAD = "head.linear."
_COUNTERS = "num_batches_tracked"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_weights(network: nn.Module, path: Path, *, model: str) -> None:
    """Put the file's weights into the plain network; InputError for those of another network.

    A last layer of other classes stays as it was drawn: that is how a network is fine-tuned.
    """
    fitting = _fitting(network.state_dict(), path, model=model)
    network.load_state_dict(fitting, strict=False)


def check_weights(path: Path, *, model: str, shape: Shape, classes: int) -> None:
    """Raise InputError for a file that `load_weights` would refuse; each version is read once."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"weights {path}: cannot be read: {error.strerror}") from error
    _check_version(path, stat.st_mtime_ns, stat.st_size, model, shape, classes)


@cache
def _check_version(
    path: Path, _modified_ns: int, _size: int, model: str, shape: Shape, classes: int
) -> None:
    with torch.device("meta"):
        network = BUILDERS[model](shape, classes)
    _fitting(network.state_dict(), path, model=model)


def _fitting(network: Mapping[str, Tensor], path: Path, *, model: str) -> dict[str, Tensor]:
    """What the file has for a network with this state; InputError if that is not all of it."""
    state = {renamed(key, model): one for key, one in _read(path).items()}
    wanted = {key: one for key, one in network.items() if _COUNTERS not in key}
    came = {key: one for key, one in state.items() if _COUNTERS not in key}
    is_other_head = any(
        key.startswith(HEAD) and key in came and came[key].shape != one.shape
        for key, one in wanted.items()
    )
    if is_other_head:
        wanted, came = _without_head(wanted), _without_head(came)
    _check(wanted, came, path=path, model=model)
    return came


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: one for key, one in state.items() if not key.startswith(HEAD)}


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: bare, under "state_dict", or under "network" as ours."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise InputError(f"weights {path}: cannot be read: {reason}") from error
    except (RuntimeError, EOFError) as error:
        reason = _first_line(error)
        raise InputError(f"weights {path}: cannot be read as a checkpoint: {reason}") from error
    except Exception as error:  # a stream that is no pickle leads its reader anywhere
        is_known = isinstance(error, pickle.UnpicklingError)  # torch's advice there is none here
        holds = "holds more than tensors" if is_known else "is damaged"
        message = f"it is no checkpoint, or {holds}; expected a dictionary of tensors"
        raise InputError(f"weights {path}: {message}, written by torch.save") from error
    for name in ("network", "state_dict"):
        if isinstance(document, dict) and isinstance(document.get(name), dict):
            document = document[name]
    if not isinstance(document, dict) or not all(
        isinstance(one, Tensor) for one in document.values()
    ):
        raise InputError(f"weights {path}: expected a dictionary of tensors, as torchvision saves")
    return {str(key).removeprefix("module."): one for key, one in document.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check(
    wanted: Mapping[str, Tensor], came: Mapping[str, Tensor], *, path: Path, model: str
) -> None:
    """Every name is there with its shape, and no other; the values are numbers to begin with."""
    missing = [key for key in wanted if key not in came]
    surplus = sorted(set(came) - set(wanted))
    if missing or surplus:
        which = f"it has {surplus[0]!r}, which is no part of it" if surplus else ""
        if missing:
            which = f"it lacks {missing[0]}, expected with shape {tuple(wanted[missing[0]].shape)}"
        count = len(missing) + len(surplus)
        raise InputError(
            f"weights {path} are of another model than {model}: {which} ({count} names differ)"
        )
    for key, one in wanted.items():
        if came[key].shape != one.shape:
            shapes = f"{key} is {tuple(came[key].shape)}, expected {tuple(one.shape)}"
            raise InputError(f"weights {path} are of another model than {model}: {shapes}")
        if came[key].dtype not in _FLOATS or came[key].layout is not torch.strided:
            kind = f"{came[key].dtype} ({came[key].layout})".replace("torch.", "")
            raise InputError(f"weights {path}: {key} is {kind}; expected dense floating point")
        if came[key].is_meta or not bool(came[key].isfinite().all()):
            raise InputError(f"weights {path}: {key} is not finite everywhere; expected numbers")
