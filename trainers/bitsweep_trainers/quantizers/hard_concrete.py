"""Random masks: hard concrete gates (arXiv 1712.01312) and coins; which points they kill is told
by the grid in `categorical`.
"""

from math import log

import torch
from torch import Tensor

GAMMA = -0.1
ZETA = 1.1
UNIFORM_MARGIN = 1e-6
LOG_LOWER = log(-GAMMA / ZETA)
LOG_UPPER = log((1 - GAMMA) / (ZETA - 1))


def draw_uniform(count: int, generator: torch.Generator) -> Tensor:
    """`count` numbers U in (0, 1), on the generator's device."""
    uniform = torch.rand(count, generator=generator, device=generator.device)
    return uniform.clamp(UNIFORM_MARGIN, 1 - UNIFORM_MARGIN)


def hard_concrete(p: Tensor, uniform: Tensor, tau: float) -> Tensor:
    """z = min(1, max(0, s (zeta - gamma) + gamma)), s = S((logit U + p) / tau); shape of p.

    >>> hard_concrete(torch.tensor([2.2, -9.0]), torch.tensor([0.3, 0.5]), 2 / 3)
    tensor([0.9606, 0.0000])
    """
    s = torch.sigmoid((torch.logit(uniform) + p) / tau)
    return torch.clamp(s * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)


def coin(p: Tensor, uniform: Tensor) -> Tensor:
    """z in {0, 1} with P(z = 1) = S(p); carries no gradient."""
    return (uniform < torch.sigmoid(p)).to(p.dtype).detach()


def live_probability(p: Tensor, tau: float) -> Tensor:
    """P(z > 0) = S(p - tau log(-gamma / zeta)); differentiable, the penalty of learned bits."""
    return torch.sigmoid(p - tau * LOG_LOWER)


def saturated_probability(p: Tensor, tau: float) -> Tensor:
    """P(z = 1) = S(p - tau log((1 - gamma) / (zeta - 1)))."""
    return torch.sigmoid(p - tau * LOG_UPPER)


def deterministic_gate(p: Tensor) -> Tensor:
    """z without noise: min(1, max(0, S(p) (zeta - gamma) + gamma)); monotone in p."""
    return torch.clamp(torch.sigmoid(p) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)
