"""Training in bf16: convolutions and linear maps by torch's autocast, quantizers in fp32.

Hooks alone: a network keeps its modules, its state and, in evaluation, its fp32 arithmetic.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitsweep_trainers.branches import BranchLayer
from bitsweep_trainers.layers import Quantized

PARTS = ("stem", "body", "head")


class _Autocast:
    """Hooks that switch autocast on, or off, while a module is in training mode.

    With gradients or without: a loss that is only looked at compares with those that are trained.
    Around the forward pass alone: a backward pass under autocast would sum the gradients of
    ranges and steps in bf16 too.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self.entered: list[torch.autocast | None] = []

    def attach(self, module: nn.Module) -> None:
        """Have the hooks called around the module's forward pass."""
        module.register_forward_pre_hook(self.enter)
        module.register_forward_hook(self.leave, always_call=True)

    def enter(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Begin; what a module without autocast is given, is given in fp32."""
        if not module.training:
            self.entered.append(None)
            return None
        context = torch.autocast(inputs[0].device.type, torch.bfloat16, enabled=self.is_on)
        context.__enter__()  # type: ignore[no-untyped-call]  # torch's
        self.entered.append(context)
        return None if self.is_on else tuple(_in_fp32(one) for one in inputs)

    def leave(self, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> object:
        """End; what leaves is in fp32."""
        context = self.entered.pop()
        if context is None:
            return output
        context.__exit__(None, None, None)
        return _in_fp32(output) if isinstance(output, Tensor) else output


def _in_fp32(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


def _fp32_inputs(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(_in_fp32(one) for one in inputs)


def train_in_bf16(network: nn.Module) -> None:
    """Make a converted network's forward passes in training run under autocast to bf16."""
    parts, quantizers = _Autocast(is_on=True), _Autocast(is_on=False)
    for name in PARTS:
        parts.attach(network.get_submodule(name))
    for module in network.modules():
        if isinstance(module, Quantized):
            quantizers.attach(module.weight_quantizer)
            quantizers.attach(module.input_quantizer)
        elif isinstance(module, BranchLayer):  # quantizes within its own forward pass
            module.register_forward_pre_hook(_fp32_inputs)
