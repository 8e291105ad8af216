"""Batch norms of several networks, under torch.vmap, as one norm over all their channels.

Torch's own rule scales and shifts apart from the norm: two more passes over the features each way,
and one more copy of them that is kept for the gradients.
"""

from collections.abc import Sequence
from functools import partial
from typing import get_args

from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.quantizers.members import Dims, below_vmap

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def widen(network: nn.Module) -> None:
    """Let every plain batch norm be computed with those of all members: in training under vmap."""
    for module in network.modules():
        is_plain = type(module) in get_args(Norm)
        if isinstance(module, Norm) and is_plain and module.affine and module.momentum is not None:
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(norm: Norm, values: Tensor) -> Tensor:
    """(N, C, ...), of the same shape; the running statistics take in the batch's."""
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    assert norm.running_mean is not None and norm.running_var is not None
    norm.num_batches_tracked.add_(1)
    compute = partial(_normalised, momentum=norm.momentum, eps=norm.eps)
    return below_vmap(compute, values, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def _normalised(
    given: Sequence[Tensor], dims: Dims, networks: int, *, momentum: float, eps: float
) -> tuple[Tensor, int]:
    """Features with S networks along a dimension -> (N, S, C, ...); numbers of channels (S, C)."""
    features, *numbers = given
    assert dims[0] is not None and set(dims[1:]) == {0}, "every network has a norm of its own"
    features_NSC = features.movedim(dims[0], 1)
    mean, variance, weight, bias = (one.view(-1) for one in numbers)
    normalised = functional.batch_norm(
        features_NSC.flatten(1, 2),
        mean,
        variance,
        weight,
        bias,
        training=True,
        momentum=momentum,
        eps=eps,
    )
    return normalised.view(features_NSC.shape), 1
