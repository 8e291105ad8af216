"""What several networks under torch.vmap compute together, below it.

Torch's public way, an autograd function with a rule for vmap, takes 0.2 ms of the host a call, and
a step of ResNet-20 makes sixty. So its private names are used here, and nowhere else.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._C._functorch import _add_batch_dim, _unwrap_batched
from torch._functorch.pyfunctorch import (
    VmapInterpreter,
    retrieve_current_functorch_interpreter,
)

Dims = Sequence[int | None]


def is_vmapped() -> bool:
    """Whether what runs stands for several networks at once: within torch.vmap."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def below_vmap(
    compute: Callable[[Sequence[Tensor], Dims, int], tuple[Tensor, int | None]], *tensors: Tensor
) -> Tensor:
    """compute(tensors, dims, networks) -> (result, its dimension of networks), as vmap sees it.

    There each tensor is that of all networks, which lie along its number among the dims; None: all
    have the same. Gradients are those of what `compute` does.
    """
    interpreter = retrieve_current_functorch_interpreter()
    assert isinstance(interpreter, VmapInterpreter), "no other transform of torch.func is used"
    level = interpreter.level()
    found = [_unwrap_batched(one, level) for one in tensors]
    with interpreter.lower():
        networks = interpreter.batch_size()
        result, dim = compute([one for one, _ in found], [dim for _, dim in found], networks)
    return result if dim is None else _add_batch_dim(result, dim, level)


def with_own(
    compute: Callable[[Tensor, Tensor], Tensor], values: Tensor, number: Tensor
) -> Tensor:
    """compute(values, number) of all networks at once, each with its number, as vmap sees it.

    There the numbers are shaped to meet the values of their networks by broadcasting.

    >>> steps, values = torch.tensor([1.0, 2.0]), torch.ones(3, 2)
    >>> double = lambda x, step: with_own(torch.mul, x, step)
    >>> torch.vmap(double, in_dims=(1, 0))(values, steps).tolist()
    [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    """

    def shaped(given: Sequence[Tensor], dims: Dims, networks: int) -> tuple[Tensor, int]:
        (x, numbers), (dim, has_own) = given, dims
        if dim is None:
            x, dim = x.expand(networks, *x.shape), 0
        if has_own is not None:
            numbers = numbers.reshape([-1 if one == dim else 1 for one in range(x.ndim)])
        return compute(x, numbers), dim

    return below_vmap(shaped, values, number)
