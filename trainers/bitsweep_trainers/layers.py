"""Layers that quantize their weights and their input, and how a network gets them.

The quantizers are modules, any method's; what they do is no matter of this file. The ends (first
and last layer) run at 8 bits by LSQ in every method that trains with quantization.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bitsweep.bits import Bits
from bitsweep_trainers.methods.base import ParameterGroup
from bitsweep_trainers.packed.pack import Place, layer_record
from bitsweep_trainers.packed.records import LayerRecord
from bitsweep_trainers.quantizers.learned_step import LearnedStep, Role

END_BITS = 8
Computing = nn.Conv2d | nn.Conv1d | nn.Linear


class QuantizedConv2d(nn.Conv2d):
    """A convolution of quantized inputs with quantized weights; shares the given one's tensors."""

    def __init__(
        self, source: nn.Conv2d, *, weight_quantizer: nn.Module, input_quantizer: nn.Module
    ) -> None:
        super().__init__(
            source.in_channels,
            source.out_channels,
            source.kernel_size,  # type: ignore[arg-type]  # typed as tuples of any length
            stride=source.stride,  # type: ignore[arg-type]
            padding=source.padding,  # type: ignore[arg-type]
            dilation=source.dilation,  # type: ignore[arg-type]
            groups=source.groups,
            bias=source.bias is not None,
            padding_mode=source.padding_mode,
            device="meta",  # draws nothing: the tensors are the source's
        )
        self.weight = source.weight
        self.bias = source.bias
        self.weight_quantizer = weight_quantizer
        self.input_quantizer = input_quantizer

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        weights_OIHW = self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(self.input_quantizer(values), weights_OIHW, self.bias)
        return output

    def pack_part(self, place: Place) -> LayerRecord:
        """What a packed file keeps."""
        return layer_record(
            self,
            place,
            weight_quantizer=self.weight_quantizer,
            input_quantizer=self.input_quantizer,
        )


class QuantizedConv1d(nn.Conv1d):
    """A convolution over series, quantized likewise; shares the given one's tensors."""

    def __init__(
        self, source: nn.Conv1d, *, weight_quantizer: nn.Module, input_quantizer: nn.Module
    ) -> None:
        super().__init__(
            source.in_channels,
            source.out_channels,
            source.kernel_size,  # type: ignore[arg-type]  # typed as tuples of any length
            stride=source.stride,  # type: ignore[arg-type]
            padding=source.padding,  # type: ignore[arg-type]
            dilation=source.dilation,  # type: ignore[arg-type]
            groups=source.groups,
            bias=source.bias is not None,
            padding_mode=source.padding_mode,
            device="meta",  # draws nothing: the tensors are the source's
        )
        self.weight = source.weight
        self.bias = source.bias
        self.weight_quantizer = weight_quantizer
        self.input_quantizer = input_quantizer

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, L) -> (N, O, L')."""
        weights_OIL = self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(self.input_quantizer(values), weights_OIL, self.bias)
        return output

    def pack_part(self, place: Place) -> LayerRecord:
        """What a packed file keeps."""
        return layer_record(
            self,
            place,
            weight_quantizer=self.weight_quantizer,
            input_quantizer=self.input_quantizer,
        )


class QuantizedLinear(nn.Linear):
    """A linear map of quantized inputs by quantized weights; shares the given one's tensors."""

    def __init__(
        self, source: nn.Linear, *, weight_quantizer: nn.Module, input_quantizer: nn.Module
    ) -> None:
        super().__init__(
            source.in_features, source.out_features, bias=source.bias is not None, device="meta"
        )
        self.weight = source.weight
        self.bias = source.bias
        self.weight_quantizer = weight_quantizer
        self.input_quantizer = input_quantizer

    def forward(self, values: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        weights_OI = self.weight_quantizer(self.weight)
        return nn.functional.linear(self.input_quantizer(values), weights_OI, self.bias)

    def pack_part(self, place: Place) -> LayerRecord:
        """What a packed file keeps."""
        return layer_record(
            self,
            place,
            weight_quantizer=self.weight_quantizer,
            input_quantizer=self.input_quantizer,
        )


Quantized = QuantizedConv2d | QuantizedConv1d | QuantizedLinear


def quantized(
    source: Computing, *, weight_quantizer: nn.Module, input_quantizer: nn.Module
) -> Quantized:
    """The layer with quantizers around its weights and its input."""
    if isinstance(source, nn.Conv2d):
        return QuantizedConv2d(
            source, weight_quantizer=weight_quantizer, input_quantizer=input_quantizer
        )
    if isinstance(source, nn.Conv1d):
        return QuantizedConv1d(
            source, weight_quantizer=weight_quantizer, input_quantizer=input_quantizer
        )
    return QuantizedLinear(
        source, weight_quantizer=weight_quantizer, input_quantizer=input_quantizer
    )


def computing_layers(part: nn.Module) -> list[tuple[str, Computing]]:
    """The convolutions and linear maps within a module with their paths, in `modules()` order."""
    return [(path, one) for path, one in part.named_modules() if isinstance(one, Computing)]


def quantized_layers(part: nn.Module) -> list[tuple[str, Quantized]]:
    """The layers with quantizers within a module with their paths, in `modules()` order."""
    return [(path, one) for path, one in part.named_modules() if isinstance(one, Quantized)]


def replace_layers(part: nn.Module, make: Callable[[Computing], nn.Module]) -> None:
    """Put make(layer) in the place of each convolution and linear map within a module.

    Layers that are quantized stay. `part` itself cannot be a layer.
    """
    for path, layer in computing_layers(part):
        if not isinstance(layer, Quantized):
            part.set_submodule(path, make(layer))


def learned_step_layer(
    source: Computing,
    *,
    weight_bits: int,
    activation_bits: int,
    input_role: Role = "activation",
    backend: str = "eager",
    n_counts_batch: bool = False,
) -> Quantized:
    """The layer with LSQ around its weights and its input; steps are set by `calibrate_steps`."""
    return quantized(
        source,
        weight_quantizer=LearnedStep(bits=weight_bits, role="weight", backend=backend),
        input_quantizer=LearnedStep(
            bits=activation_bits,
            role=input_role,
            backend=backend,
            n_counts_batch=n_counts_batch,
        ),
    )


def quantize_ends(
    network: nn.Module, *, backend: str = "eager", n_counts_batch: bool = False
) -> None:
    """Make the layer of the stem and that of the head 8-bit LSQ layers, in place."""
    roles: dict[str, Role] = {"stem": "images", "head": "activation"}
    for part, role in roles.items():
        make = partial(
            learned_step_layer,
            weight_bits=END_BITS,
            activation_bits=END_BITS,
            input_role=role,
            backend=backend,
            n_counts_batch=n_counts_batch,
        )
        replace_layers(network.get_submodule(part), make)


def learned_steps(part: nn.Module) -> Iterator[LearnedStep]:
    """Every LSQ quantizer within a module."""
    return (one for one in part.modules() if isinstance(one, LearnedStep))


@torch.no_grad()
def calibrate_steps(network: nn.Module, images: Tensor) -> None:
    """Initialise every LSQ quantizer: weights from the weights, inputs from one forward pass.

    Each input is that of a network whose earlier layers are quantized, as in training. Only
    layers of this file are looked at; other quantizers in the network just run.
    """
    handles = []
    for _, layer in quantized_layers(network):
        if isinstance(layer.weight_quantizer, LearnedStep):
            layer.weight_quantizer.initialise(layer.weight)
        if isinstance(layer.input_quantizer, LearnedStep):
            handles.append(layer.input_quantizer.register_forward_pre_hook(_initialise))
    network(images)
    for handle in handles:
        handle.remove()


def _initialise(quantizer: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(quantizer, LearnedStep)
    quantizer.initialise(inputs[0])


def float_groups(
    network: nn.Module, *, learning_rate: float, weight_decay: float
) -> Sequence[ParameterGroup]:
    """What an unquantized network learns: kernels with decay; batch norms and biases without."""
    kernels: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in network.modules():
        if isinstance(module, Computing | nn.BatchNorm1d | nn.BatchNorm2d):
            for name, one in module.named_parameters(recurse=False):
                is_kernel = name == "weight" and isinstance(module, Computing)
                (kernels if is_kernel else others).append(one)
    return (
        ParameterGroup(
            name="weights",
            parameters=kernels,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        ),
        ParameterGroup(name="norms", parameters=others, learning_rate=learning_rate),
    )


def step_group(network: nn.Module, *, learning_rate: float) -> ParameterGroup:
    """The steps that learn, of every LSQ quantizer, the ends' included; no decay."""
    steps = [one.step for one in learned_steps(network) if one.step.requires_grad]
    return ParameterGroup(name="steps", parameters=steps, learning_rate=learning_rate)


def select_body(network: nn.Module, bits: Bits) -> None:
    """Make the quantized layers of the body run at these bits; lossless, both ways."""
    for _, layer in quantized_layers(network.get_submodule("body")):
        layer.weight_quantizer.bits = bits.weight  # type: ignore[assignment]  # a plain int
        layer.input_quantizer.bits = bits.activation  # type: ignore[assignment]


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm into the layer before it, in place; evaluation gives equal outputs.

    A norm follows its layer in the order of `modules()`, as in all networks of this package.
    """
    previous: Computing | None = None
    for path, module in list(network.named_modules()):
        if isinstance(module, Computing):
            previous = module
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert previous is not None, f"no layer comes before {path}"
            _fold(previous, module)
            network.set_submodule(path, nn.Identity())
            previous = None


def _fold(layer: Computing, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = torch.zeros_like(norm.bias) if layer.bias is None else layer.bias
    layer.bias = nn.Parameter(norm.bias + (bias - norm.running_mean) * scale)
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
