"""Weights from a file: torchvision's state dictionaries, or a checkpoint of this package."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bitsweep.errors import InputError
from bitsweep_trainers.models.from_torchvision import renamed

HEAD = "head.linear."
_COUNTERS = "num_batches_tracked"


def load_weights(network: nn.Module, path: Path, *, model: str) -> None:
    """Put the file's weights into the plain network; InputError for those of another network.

    A last layer of other classes stays as it was drawn: that is how a network is fine-tuned.
    """
    state = {renamed(key, model): one for key, one in _read(path).items()}
    wanted = {key: one for key, one in network.state_dict().items() if _COUNTERS not in key}
    came = {key: one for key, one in state.items() if _COUNTERS not in key}
    is_other_head = any(
        key.startswith(HEAD) and key in came and came[key].shape != one.shape
        for key, one in wanted.items()
    )
    if is_other_head:
        wanted, came = _without_head(wanted), _without_head(came)
    _check(wanted, came, path=path, model=model)
    network.load_state_dict(came, strict=False)


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: one for key, one in state.items() if not key.startswith(HEAD)}


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: bare, under "state_dict", or under "network" as ours."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's advice, to run what is in it, is none here
        message = (
            "it is no checkpoint, or holds more than tensors; expected a dictionary of tensors"
        )
        raise InputError(f"weights {path}: {message}, written by torch.save") from error
    except (OSError, RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"weights {path}: cannot be read as a checkpoint: {reason}") from error
    for name in ("network", "state_dict"):
        if isinstance(document, dict) and isinstance(document.get(name), dict):
            document = document[name]
    if not isinstance(document, dict) or not all(
        isinstance(one, Tensor) for one in document.values()
    ):
        raise InputError(f"weights {path}: expected a dictionary of tensors, as torchvision saves")
    return {str(key).removeprefix("module."): one for key, one in document.items()}


def _check(
    wanted: Mapping[str, Tensor], came: Mapping[str, Tensor], *, path: Path, model: str
) -> None:
    missing = sorted(set(wanted) - set(came))
    surplus = sorted(set(came) - set(wanted))
    if missing or surplus:
        which = f"it lacks {missing[0]}" if missing else f"it has {surplus[0]}"
        count = len(missing) + len(surplus)
        raise InputError(
            f"weights {path} are of another model than {model}: {which} ({count} names differ)"
        )
    for key, one in wanted.items():
        if came[key].shape != one.shape:
            shapes = f"{key} is {tuple(came[key].shape)}, expected {tuple(one.shape)}"
            raise InputError(f"weights {path} are of another model than {model}: {shapes}")
