"""The network that a packed file becomes: plain layers of dequantised codes, and a bit switch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import FULL_PRECISION_BITS, Bits, labels, parse_bits
from bitsweep.errors import InputError
from bitsweep_trainers.branch_norm import BranchNorm
from bitsweep_trainers.branch_rows import ActiveRows
from bitsweep_trainers.branches import BranchLayer
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.packed.pack import Computing
from bitsweep_trainers.packed.records import (
    BranchNormRecord,
    BranchRecord,
    Folded,
    LayerRecord,
    NormRecord,
    map_tensors,
)

END_BITS = 8


def _laid_out(values: Tensor, strides: tuple[int, ...] | None) -> Tensor:
    """With the very strides of a trained network, since kernels are chosen by them.

    None: channels last, if there are channels and pixels. ValueError for strides with gaps.
    """
    if strides is None:
        kind = torch.channels_last if values.ndim == 4 else torch.preserve_format
        return torch.empty_like(values, memory_format=kind).copy_(values)
    last = sum((size - 1) * one for size, one in zip(values.shape, strides, strict=True))
    if min(strides, default=0) < 0 or last + 1 != values.numel():
        raise ValueError(f"strides {strides} do not lay {tuple(values.shape)} out without gaps")
    made = torch.empty_strided(values.shape, strides, dtype=values.dtype, device=values.device)
    return made.copy_(values)


def folded_norm(values: Tensor, norm: Folded) -> Tensor:
    """x scale + shift by channel, by the kernel that a batch norm in evaluation runs."""
    mean, var = torch.zeros_like(norm.shift), torch.ones_like(norm.scale)
    return functional.batch_norm(values, mean, var, norm.scale, norm.shift, False, 0.0, 0.0)


class PackedLayer(nn.Module):
    """A convolution or linear map of rounded inputs by weights made from codes at the switch."""

    def __init__(self, record: LayerRecord, source: Computing) -> None:
        super().__init__()
        self.record = record
        self.is_linear = isinstance(source, nn.Linear)
        self.is_series = isinstance(source, nn.Conv1d)
        self.geometry: dict[str, Any] = {}  # keywords of conv2d or conv1d
        if isinstance(source, nn.Conv2d | nn.Conv1d):
            if source.padding_mode != "zeros":
                raise ValueError(f"padding mode {source.padding_mode} is not supported")
            self.geometry = {
                name: getattr(source, name) for name in ("stride", "padding", "dilation", "groups")
            }
        self.bits = Bits(weight=FULL_PRECISION_BITS, activation=FULL_PRECISION_BITS)
        self.weights: tuple[Tensor, ...] = ()

    def switch(self, bits: Bits | None) -> None:
        """Make the weights of these bits; None: of the layer's own, which are fixed."""
        if bits is None:
            assert self.record.bits is not None
            weight, activation = self.record.bits
            bits = Bits(weight=weight, activation=activation)
        self.bits = bits
        values = self.record.weights.values(self.bits.weight)
        self.weights = tuple(_laid_out(one, self.record.strides) for one in values)

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) -> (N, O, ...)."""
        record = self.record
        if record.input is not None:
            values = record.input.rounded(values, self.bits.activation)
        biases = (record.bias, *(None for _ in self.weights[1:]))
        outputs = [
            self._compute(values, weight, bias)
            for weight, bias in zip(self.weights, biases, strict=True)
        ]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).sum(0)

    def _compute(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.is_linear:
            return functional.linear(values, weight, bias)
        if self.is_series:
            return functional.conv1d(values, weight, bias, **self.geometry)
        return functional.conv2d(values, weight, bias, **self.geometry)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedLayer":
        self.record = map_tensors(self.record, fn)
        self.weights = tuple(fn(one) for one in self.weights)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


class PackedNorm(nn.Module):
    """Folded batch norms; the bits of its layers say which runs."""

    def __init__(self, record: NormRecord) -> None:
        super().__init__()
        self.record = record
        self.key = next(iter(record.copies))

    def switch(self, bits_of: Mapping[str, int]) -> None:
        """Choose by the weight bits of each layer; what is no layer counts 8."""
        keyed_by = self.record.keyed_by
        self.key = "_".join(str(bits_of.get(path, END_BITS)) for path in keyed_by)

    @property
    def current(self) -> Folded:
        """The one that runs."""
        return self.record.copies[self.key]

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) of the same shape."""
        return folded_norm(values, self.current)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedNorm":
        self.record = map_tensors(self.record, fn)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


class PackedBranches(BranchLayer):
    """A layer of branches whose weights are codes; `source` is the layer in whose place it is."""

    def __init__(self, record: BranchRecord, source: BranchLayer) -> None:
        nn.Module.__init__(self)
        self.held = None
        self.rows, self.narrow = source.rows, source.narrow
        self.kernels, self.geometry = source.kernels, source.geometry
        self.in_channels, self.is_depthwise = source.in_channels, source.is_depthwise
        self.register_buffer("tensors_R", source.tensors_R, persistent=False)
        self.register_buffer("levels_T", source.levels_T, persistent=False)
        self.register_buffer("codes_TOI", _tensors(record), persistent=False)
        for name in ("weight_lower", "weight_upper", "input_lower", "input_upper"):
            self.register_buffer(name, getattr(record, name), persistent=False)

    def weight_codes(self) -> Tensor:
        """The codes (T, O, I, ...)."""
        return self.get_buffer("codes_TOI")


def _tensors(record: BranchRecord) -> Tensor:
    """The codes (T, O, I, ...) of a record, a tensor for each branch unless it says otherwise."""
    if isinstance(record.codes, tuple):
        return torch.stack([one.floats() for one in record.codes])
    return torch.unflatten(record.codes.floats(), 0, (len(record.weight_lower), -1))


class PackedBranchNorm(BranchNorm):
    """The folded norms of branches; `source` is the norm in whose place it is."""

    def __init__(self, record: BranchNormRecord, source: BranchNorm) -> None:
        nn.Module.__init__(self)
        self.rows, self.channels = source.rows, source.channels
        self.narrow_channels = source.narrow_channels
        self.eps, self.momentum = 0.0, 0.0
        scale, shift = record.rows.scale, record.rows.shift
        self.register_buffer("weight", scale, persistent=False)
        self.register_buffer("bias", shift, persistent=False)
        self.register_buffer("running_mean", torch.zeros_like(shift), persistent=False)
        self.register_buffer("running_var", torch.ones_like(scale), persistent=False)


class PackedNetwork(nn.Module):
    """A network for inference; `widths` are the bits that it can be switched to.

    `header` is what the file says of itself: trial, model, data, sizes. It runs at the largest
    width until `set_bits` is called, and has nothing that learns. `allocation` is the label of the
    bits that its layers have for good, each its own; there are no widths then.
    """

    def __init__(self, network: nn.Module, header: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.header = header
        self.widths = tuple(parse_bits(str(one)) for one in header["widths"])
        self.mean = tuple(float(one) for one in header["data"]["mean"])
        self.std = tuple(float(one) for one in header["data"]["std"])
        self.allocation = header.get("allocation")
        if self.allocation is None:
            self.set_bits(self.widths[-1])
        else:
            self._set_layers([])
        self.eval()

    @property
    def body_layers(self) -> tuple[str, ...]:
        """The paths of the layers whose bits may differ, in order."""
        return tuple(
            path
            for path, one in self.network.named_modules()
            if isinstance(one, PackedLayer) and one.record.bits is None
        )

    def set_bits(self, bits: int | str | Bits | Sequence[int]) -> None:
        """Run at 4, at "w4a4", or at one width per layer of `body_layers`; lossless, both ways.

        InputError for bits that the file does not hold.
        """
        if self.allocation is not None:
            raise InputError(f"the file holds {self.allocation} alone: its bits are not switched")
        if isinstance(bits, Sequence) and not isinstance(bits, str):
            self._set_layers([self._known(one) for one in bits])
            return
        known = self._known(bits)
        for one in self.network.modules():
            if isinstance(one, ActiveRows):
                one.activate((known.weight,))
        self._set_layers([known] * len(self.body_layers))

    def _known(self, bits: int | str | Bits) -> Bits:
        try:
            wanted = bits if isinstance(bits, Bits) else parse_bits(bits)
        except ValueError as error:
            raise InputError(str(error)) from error
        if isinstance(bits, int):
            wanted = next((one for one in self.widths if one.weight == bits), wanted)
        if wanted not in self.widths:
            raise InputError(f"the file holds {labels(self.widths)}, not {wanted.label}")
        return wanted

    def _set_layers(self, widths: Sequence[Bits]) -> None:
        paths = self.body_layers
        if len(widths) != len(paths):
            raise InputError(f"expected bits for {len(paths)} layers, got {len(widths)}")
        chosen = dict(zip(paths, widths, strict=True))
        bits_of: dict[str, int] = {}
        for path, one in self.network.named_modules():
            if isinstance(one, PackedLayer):
                one.switch(chosen.get(path))
                bits_of[path] = one.bits.weight
        for one in self.network.modules():
            if isinstance(one, PackedNorm):
                one.switch(bits_of)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W), series or vectors -> logits (N, classes), or vectors."""
        logits: Tensor = self.network(images)
        return logits

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), or series or vectors as they are in the data, -> logits."""
        return self.forward(normalise(images, self.mean, self.std))
