"""What a network learns to make small: by what its targets are."""

import torch
from torch import Tensor
from torch.nn import functional

from bitsweep.recipe import Recipe


def task_loss(outputs: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Cross-entropy with classes int64 (N,); mean squared error with vectors float (N, numbers).

    "sum" is over samples: each counts with the mean over its numbers.
    """
    if not targets.is_floating_point():
        return functional.cross_entropy(outputs, targets, reduction=reduction)
    squares = (outputs - targets).square().mean(1)
    return squares.sum() if reduction == "sum" else squares.mean()


def training_loss(outputs: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """The mean loss of a batch; smoothed labels are probabilities of classes (N, classes)."""
    if recipe.label_smoothing:
        return functional.cross_entropy(outputs, targets)
    return task_loss(outputs, targets)


def complex_cosines(outputs: Tensor, targets: Tensor) -> Tensor:
    """|<h, h'>| / (|h| |h'|) of complex vectors given as real, then imaginary parts: (N,).

    Source: the cosine similarity of CsiNet (arXiv 1712.08919, eq. 9), for one vector. It is 0
    where one of the two is zero.

    >>> complex_cosines(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])).tolist()
    [1.0]
    """
    ours, theirs = (torch.complex(*one.double().chunk(2, dim=1)) for one in (outputs, targets))
    product = (ours.conj() * theirs).sum(1).abs()
    norms = ours.abs().square().sum(1).sqrt() * theirs.abs().square().sum(1).sqrt()
    return torch.where(norms > 0, product / norms.clamp(min=1e-300), torch.zeros_like(norms))


def normalised_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """|h - h'|^2 / |h'|^2 of each vector: (N,)."""
    error = (outputs.double() - targets.double()).square().sum(1)
    return error / targets.double().square().sum(1).clamp(min=1e-300)
