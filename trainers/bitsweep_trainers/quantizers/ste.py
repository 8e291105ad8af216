"""Straight-through pieces for gradients that autograd composes; no quantizer stands here."""

from torch import Tensor


def round_ste(values: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing had been rounded.

    >>> import torch
    >>> round_ste(torch.tensor([-0.9, -0.3, 0.1, 0.6])).tolist()
    [-1.0, 0.0, 0.0, 1.0]
    """
    return values + (values.round() - values).detach()


def scale_gradient(values: Tensor, scale: float) -> Tensor:
    """The same values; their gradient is multiplied by `scale` (LSQ, section 2.2).

    >>> import torch
    >>> step = torch.tensor(0.5, requires_grad=True)
    >>> scale_gradient(step, 0.25).backward()
    >>> step.grad.item()
    0.25
    """
    scaled = values * scale
    return (values - scaled).detach() + scaled
