"""Where a network that diverged first stopped being finite."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

QUANTIZERS = (".weight_quantizer", ".input_quantizer")


def first_not_finite(network: nn.Module, run: Callable[[], object]) -> str:
    """ "layer NAME", the first whose output is not finite while `run` runs, or "the loss".

    Every module is looked at, in the order in which they end, so that a layer that quantizes
    inside itself is found; a quantizer's output counts as its layer's. `run` may run the network
    several times, as a step over several widths does.
    """
    found: list[str] = []

    def look(name: str, output: object) -> None:
        if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(name)

    handles = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: look(name, out))
        for name, module in network.named_modules()
        if name
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return f"layer {_layer(found[0])}" if found else "the loss"


def _layer(name: str) -> str:
    """The layer that a quantizer belongs to; any other module itself."""
    for part in QUANTIZERS:
        name = name.split(part)[0]
    return name
