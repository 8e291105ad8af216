"""Quantizers of several networks at once, under torch.vmap: what each network's own gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitsweep_trainers.quantizers.clipping import clipped_values
from bitsweep_trainers.quantizers.dorefa import UnitActivations, dorefa_weights
from bitsweep_trainers.quantizers.learned_offset import offset_step
from bitsweep_trainers.quantizers.learned_step import learned_step

UNIT = UnitActivations(bits=2)
QUANTIZERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lsq": lambda x, s: learned_step(x, s, low=-2, high=3, gradient_scale=0.5),
    "lsq_plus": lambda x, s: offset_step(x, s, 0.1 * s, bits=2, gradient_scale=0.5),
    "pact": lambda x, s: clipped_values(x, s, bits=2),
    "calibrated pact": lambda x, s: clipped_values(x, s, bits=2, is_calibrated=True),
    "dorefa inputs": lambda x, s: UNIT(x) * s,
    "dorefa weights": lambda x, s: dorefa_weights(x, bits=2) * s,
    "dorefa weights of one bit": lambda x, s: dorefa_weights(x, bits=1) * s,
}


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_values_and_gradients_are_those_of_each_network_along_any_dimension(
    name: str, dim: int
) -> None:
    """The last of the numbers is below what a step or a level may be."""
    quantize, draws = QUANTIZERS[name], torch.Generator().manual_seed(0)
    values = torch.randn(3, 3, 3, generator=draws, dtype=torch.float64).requires_grad_()
    numbers = torch.tensor([0.2, 0.5, -1.0], dtype=torch.float64, requires_grad=True)
    outer = torch.randn(3, 3, 3, generator=draws, dtype=torch.float64)

    def found(quantized: Tensor) -> tuple[Tensor, ...]:
        wanted = (outer * quantized).sum()
        return quantized.detach(), *torch.autograd.grad(wanted, (values, numbers))

    together = found(torch.vmap(quantize, in_dims=(dim, 0), out_dims=dim)(values, numbers))
    one_by_one = [quantize(values.select(dim, index), numbers[index]) for index in range(3)]

    for ours, theirs in zip(together, found(torch.stack(one_by_one, dim)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["lsq", "pact"])
def test_values_that_all_networks_share_are_quantized_by_each(name: str) -> None:
    quantize, values = QUANTIZERS[name], torch.tensor([-0.7, 0.1, 0.9])
    numbers = torch.tensor([0.2, 0.5])
    together = torch.vmap(quantize, in_dims=(None, 0))(values, numbers)

    assert torch.equal(together, torch.stack([quantize(values, one) for one in numbers]))
