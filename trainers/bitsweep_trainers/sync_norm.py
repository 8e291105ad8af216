"""Batch norms that see the whole batch of a trial over several workers, on CPU and GPU alike.

torch's own SyncBatchNorm runs on CUDA only. Equal shares are assumed, as the loop cuts them.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

from bitsweep.errors import InputError

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d)
Norm = nn.BatchNorm1d | nn.BatchNorm2d


class _SumOverWorkers(torch.autograd.Function):
    """y = sum_r x_r on every worker; the gradient of the summed losses is the sum of gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # torch's context
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # torch's context
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def synchronise(network: nn.Module, size: int) -> int:
    """Let every batch norm of the network train on all workers' shares; return how many it has.

    InputError for a network with statistics in modules of another kind.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, KINDS) and type(module) in KINDS
    ]
    for name, module in network.named_modules():
        if isinstance(getattr(module, "running_mean", None), Tensor) and module not in norms:
            raise InputError(f"sync_batch_norm: {name} is no plain batch norm; switch it off")
    for norm in norms:
        norm.forward = partial(_forward, norm, size)  # type: ignore[method-assign]
    return len(norms)


def _forward(norm: Norm, size: int, x: Tensor) -> Tensor:
    """Normalise x (N, C, ...) by mean and variance over N and places of all workers.

    Two reductions: the squares are taken around the common mean, as one worker does.
    """
    if not norm.training:
        return type(norm).forward(norm, x)
    dims = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    count = x.numel() // x.shape[1] * size
    mean: Tensor = _SumOverWorkers.apply(x.sum(dims)) / count  # type: ignore[no-untyped-call]
    centred = x - mean.view(shape)
    squares = (centred * centred).sum(dims)
    variance: Tensor = _SumOverWorkers.apply(squares) / count  # type: ignore[no-untyped-call]
    _remember(norm, mean, variance * count / max(count - 1, 1))
    scaled = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.weight is None:
        return scaled
    return scaled * norm.weight.view(shape) + norm.bias.view(shape)


@torch.no_grad()
def _remember(norm: Norm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, as torch's batch norm does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)
