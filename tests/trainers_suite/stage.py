"""A device that is not the CPU, to rehearse what runs on a GPU where there is none.

Tensors on "stage" say that they are there, compute on the CPU, and refuse what CUDA refuses: two
devices in one operation (but for scalars, copies and indices), and draws from a CPU generator.
Torch's own state changes once this is imported, so it is imported in a process of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

backend_registration._setup_privateuseone_for_python_backend("stage")

STAGE = torch.device("stage", 0)
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
# What makes a host wait until a GPU has come so far; each is written down here.
WAITING = (ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN._unique2.default)
WAITS: list[str] = []
INDEXED = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default)


class Staged(Tensor):
    """A tensor on the stage; `raw` holds its numbers."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "Staged":
        made = Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            layout=raw.layout,
            device=STAGE,
        )
        made.raw = raw
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["raw"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: object) -> "Staged":
        return Staged(inner["raw"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as what torch.load(map_location="cpu") makes of it."""
        return self.raw.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Staged({self.raw})"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch does to and from lists in C++, where a tensor of our kind is unknown."""
        given = dict(kwargs or {})
        if func is Tensor.tolist:
            return args[0].cpu().tolist()
        if func is Tensor.new_tensor:
            given.setdefault("dtype", args[0].dtype)
            return torch.tensor(*args[1:], **given).to(args[0].device)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = tree_of_tensors(args[1])
            args = (args[0], index, *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **given)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own stub forgets func
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return performed(func, args, dict(kwargs or {}))


def tree_of_tensors(index: Any) -> Any:
    """An index with its lists as tensors."""
    if isinstance(index, tuple):
        return tuple(tree_of_tensors(one) for one in index)
    return torch.tensor(index) if isinstance(index, list) else index


class Stage(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes `device=STAGE` and `.to(STAGE)` mean the stage."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return performed(func, args, dict(kwargs or {}))


def performed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation on the raw numbers; its results are where torch would have put them."""
    leaves = tree_leaves((args, kwargs))
    staged = [one for one in leaves if isinstance(one, Staged)]
    is_staged = bool(staged)
    if kwargs.get("device") is not None:
        is_staged = torch.device(kwargs["device"]).type == STAGE.type
        kwargs["device"] = "cpu"
    check_devices(func, args, leaves)
    if staged and (func in WAITING or (func is ATEN._to_copy.default and not is_staged)):
        WAITS.append(str(func))
    if is_staged and any(isinstance(one, torch.Generator) for one in leaves):
        raise RuntimeError(f"{func}: a CPU generator draws on the device {STAGE}")
    if func is ATEN._conj.default:
        func = ATEN.conj_physical.default  # torch resolves lazy conjugates above its dispatcher
    raw_args, raw_kwargs = tree_map_only(Staged, lambda one: one.raw, (args, kwargs))
    result = func(*raw_args, **raw_kwargs)
    if func is ATEN.copy_.default:
        return args[0]
    if not is_staged:
        return result
    result = tree_map_only(Tensor, Staged, result)
    if not staged or func is ATEN._to_copy.default:
        return result
    return return_and_correct_aliasing(func, args, kwargs, result)  # type: ignore[no-untyped-call]


def check_devices(func: Any, args: tuple[Any, ...], leaves: Sequence[Any]) -> None:
    """RuntimeError for tensors on two devices, but where CUDA takes them too."""
    tensors = [one for one in leaves if isinstance(one, Tensor)]
    plain = [one for one in tensors if not isinstance(one, Staged)]
    if not plain or len(plain) == len(tensors) or func in COPIES:
        return
    if func in INDEXED:
        values = args[2] if len(args) > 2 else args[0]
        is_fine = isinstance(args[0], Staged) and (isinstance(values, Staged) or not values.ndim)
    else:
        is_fine = torch.Tag.pointwise in func.tags and not any(one.ndim for one in plain)
    if not is_fine:
        where = [f"{tuple(one.shape)} on {one.device}" for one in tensors]
        raise RuntimeError(f"{func}: tensors on two devices: {', '.join(where)}")


def open_stage() -> None:
    """Replace what makes tensors beside torch's dispatcher, or forbids tensors of other kinds."""
    make = torch.tensor

    def tensor(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        made = make(*args, **kwargs)
        return made if device is None else made.to(device)

    torch.tensor = tensor
    torch.inference_mode.__enter__ = torch.no_grad.__enter__  # type: ignore[assignment]
    torch.inference_mode.__exit__ = torch.no_grad.__exit__  # type: ignore[assignment]
