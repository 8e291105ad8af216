"""The layers of a body that is kept in 2-bit branches; a bit-width runs some of them.

What rows are and which of them run stands in `branch_rows`.
Letters: N images, K branches, R rows, T weight tensors, C or I channels in, O channels out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.branch_rows import ActiveRows
from bitsweep_trainers.methods.declared.branch_effects import first_filter
from bitsweep_trainers.methods.declared.branch_switches import switched
from bitsweep_trainers.methods.declared.branch_table import (
    BRANCH_BITS,
    BranchTable,
    NarrowLayer,
)
from bitsweep_trainers.packed.pack import Place
from bitsweep_trainers.packed.records import BranchRecord
from bitsweep_trainers.packed.weights import Codes
from bitsweep_trainers.quantizers.interval import (
    WEIGHT_LEVELS,
    Kernels,
    activation_range,
    interval_codes,
    kernels_of,
    weight_range,
    weight_values,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPlan:
    """How a body becomes branches.

    `noise`: standard deviation of what is added to each branch's copy of a weight tensor, in
    standard deviations of that tensor; None: each branch is drawn anew, times `drawn_scale`.
    `range_factor`: l and u begin at -/+ this many. `serving`: what a trained network runs, None:
    the table. `switches`: where it departs from a clean MBQuant (`declared.branch_switches`).
    """

    table: BranchTable
    num_branches: int
    noise: float | None
    range_factor: float
    backend: str = "eager"
    drawn_scale: float = 1.0
    serving: BranchTable | None = None
    switches: Mapping[str, str] = field(default_factory=lambda: switched({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightTensor:
    """One tensor of weight codes: O filters from `first_filter` on, a range, the greatest code."""

    first_filter: int
    range_slot: int
    levels: int


class BranchLayer(nn.Module):
    """K branches of a convolution or linear map, each with 2-bit weights.

    Weights (K O, I, ...) and their ranges (K,) belong to a branch; input ranges belong to a row,
    full rows before narrow ones. Every tensor of codes, one a branch unless a switch has it
    otherwise, is quantized once in a forward pass, whatever the number of rows that read it, and
    its gradient is summed over them before it is taken back. `held`: what the weights are worth,
    found before several passes that share it.
    """

    levels_T: Tensor
    slots_T: Tensor
    filters_TO: Tensor
    tensors_R: Tensor

    def __init__(
        self,
        source: nn.Conv2d | nn.Linear,
        *,
        plan: BranchPlan,
        rows: ActiveRows,
        narrow: NarrowLayer | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.narrow = narrow
        self.held: Tensor | None = None
        self.kernels: Kernels = kernels_of(plan.backend)
        self.geometry = _geometry(source)
        self.is_depthwise = isinstance(source, nn.Conv2d) and source.groups > 1
        weight = source.weight.detach()
        self.in_channels = len(weight) if self.is_depthwise else weight.shape[1]
        branches = first_branches(source, plan, generator)
        spread = branches.flatten(1)
        if plan.switches["range_std"] == "filter" and not self.is_depthwise:
            spread = branches.flatten(0, 1).flatten(1)[: plan.num_branches]
        lower, upper = weight_range(spread, plan.range_factor)
        num_rows = len(rows.full) + len(rows.narrow)
        self.weight = nn.Parameter(branches.flatten(0, 1))
        self.weight_lower = nn.Parameter(lower)
        self.weight_upper = nn.Parameter(upper)
        self.input_lower = nn.Parameter(weight.new_zeros(num_rows))
        self.input_upper = nn.Parameter(weight.new_ones(num_rows))
        self._set_tensors(plan)

    def _set_tensors(self, plan: BranchPlan) -> None:
        """Which tensors of codes there are, and which of them each row reads."""
        shape = (self.in_channels, len(self.weight) // plan.num_branches)
        tensors, self.tensors_of = weight_tensors(
            self.rows, plan, channels=shape, is_depthwise=self.is_depthwise
        )
        self.is_by_branch = tensors == by_branch(plan.num_branches, shape[1])
        filters = [range(one.first_filter, one.first_filter + shape[1]) for one in tensors]
        index = {
            "slots_T": torch.tensor([one.range_slot for one in tensors]),
            "filters_TO": torch.tensor([list(one) for one in filters]),
            "tensors_R": torch.tensor(self.tensors_of),
            "levels_T": self.weight_lower.new_tensor([float(one.levels) for one in tensors]),
        }
        for name, values in index.items():
            self.register_buffer(name, values.to(self.weight.device), persistent=False)

    @property
    def branches(self) -> Tensor:
        """The weights as (K, O, I, ...)."""
        return torch.unflatten(self.weight, 0, (len(self.weight_lower), -1))

    @property
    def range_parameters(self) -> list[nn.Parameter]:
        """What the quantizers learn."""
        return [self.weight_lower, self.weight_upper, self.input_lower, self.input_upper]

    def weight_codes(self) -> Tensor:
        """The codes (T, O, I, ...) of all tensors, 0..3 (2 bits), the same at any width."""
        tensors: Tensor = self.branches
        lower: Tensor = self.weight_lower
        upper: Tensor = self.weight_upper
        if not self.is_by_branch:
            tensors = self.weight[self.filters_TO]
            lower, upper = lower[self.slots_T], upper[self.slots_T]
        codes = interval_codes(
            tensors.flatten(1).unsqueeze(0), lower, upper, self.levels_T, kernels=self.kernels
        )
        return codes.view(tensors.shape)

    def weight_values(self) -> Tensor:
        """What the codes are worth, (T, O, I, ...) in [-1, 1]."""
        codes = self.weight_codes()
        if not self.is_depthwise:
            return weight_values(codes)
        return codes * (2 / self.levels_T).view(-1, *(1,) * (codes.dim() - 1)) - 1

    def forward(self, features: Tensor) -> Tensor:
        """(N, sum of the rows' channels, ...) -> the same of the rows' outputs."""
        weights = self.weight_values() if self.held is None else self.held
        rows, num_full = self.rows, len(self.rows.full_rows)
        channels = num_full * self.in_channels
        outputs = []
        if num_full:
            outputs.append(
                self._compute(
                    features[:, :channels],
                    weights[self.tensors_R[rows.full_rows]],
                    rows.full_rows,
                    rows.levels[:num_full],
                )
            )
        if self.narrow is not None and len(rows.narrow_rows):
            narrow, index = self.narrow, rows.narrow_rows + len(rows.full)
            tensors = weights[self.tensors_R[index], : narrow.out_channels]
            if not self.is_depthwise:
                tensors = tensors[:, :, : narrow.in_channels]
            outputs.append(
                self._compute(features[:, channels:], tensors, index, rows.levels[num_full:])
            )
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def _compute(self, x: Tensor, weights: Tensor, index: Tensor, levels: Tensor) -> Tensor:
        """x (N, R I, ...), weights (R, O, I, ...), index and levels (R,) -> (N, R O, ...).

        The value of an activation is code / levels; the division is done on the weights, which
        are fewer.
        """
        is_last = len(index) == 1 and x.is_contiguous(memory_format=torch.channels_last)
        if is_last:  # in memory order: quantizing does not ask where a value stands
            x_NRM = x.permute(0, 2, 3, 1).flatten(1).unsqueeze(1)
        else:
            x_NRM = torch.unflatten(x, 1, (len(index), -1)).flatten(2)
        if self.rows.is_calibrating:
            self._set_input_ranges(x_NRM, index)
        codes = interval_codes(
            x_NRM, self.input_lower[index], self.input_upper[index], levels, kernels=self.kernels
        )
        scaled = weights / levels.view(-1, *(1,) * (weights.dim() - 1))
        if self.geometry is None:
            products = torch.bmm(codes.transpose(0, 1), scaled.transpose(1, 2))
            return products.transpose(0, 1).flatten(1)
        stride, padding, dilation = self.geometry
        return functional.conv2d(
            codes.view(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
            if is_last
            else codes.view(x.shape),
            scaled.flatten(0, 1),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=scaled.shape[0] * scaled.shape[1] if self.is_depthwise else len(index),
        )

    @torch.no_grad()
    def _set_input_ranges(self, x_NRM: Tensor, index: Tensor) -> None:
        lower, upper = activation_range(x_NRM)
        self.input_lower[index] = lower
        self.input_upper[index] = upper

    @torch.no_grad()
    def pack_part(self, place: Place) -> BranchRecord:
        """What a packed file keeps: the tensors of codes, of 2 bits if there is one a branch."""
        codes_TOI = self.weight_codes()
        codes: Codes | tuple[Codes, ...] = tuple(
            Codes.of(one, bits=(int(levels) + 1).bit_length() - 1)
            for one, levels in zip(codes_TOI, self.levels_T.tolist(), strict=True)
        )
        if self.is_by_branch:
            codes = Codes.of(codes_TOI.flatten(0, 1), bits=BRANCH_BITS)
        return BranchRecord(
            codes=codes,
            weight_lower=self.weight_lower.detach(),
            weight_upper=self.weight_upper.detach(),
            input_lower=self.input_lower.detach(),
            input_upper=self.input_upper.detach(),
        )


Pair = tuple[int, int]


def first_branches(
    source: nn.Conv2d | nn.Linear, plan: BranchPlan, generator: torch.Generator
) -> Tensor:
    """The weights (K, O, I, ...) that branches begin with: copies with noise, or drawn.

    Drawn ones are normal with the sd of He et al. over the fan-out, that of our networks.
    """
    weight = source.weight.detach()
    drawn = torch.randn(
        (plan.num_branches, *weight.shape), generator=generator, dtype=weight.dtype
    ).to(weight.device)
    if plan.noise is not None:
        return weight + plan.noise * weight.std() * drawn
    fan_out = len(weight) * weight[0, 0].numel()
    if isinstance(source, nn.Conv2d):
        fan_out //= source.groups
    deviation: float = plan.drawn_scale * (2 / fan_out) ** 0.5
    return drawn * deviation


def by_branch(num_branches: int, out_channels: int) -> list[WeightTensor]:
    """A tensor for each branch: its own filters, its own range, 2 bits."""
    return [
        WeightTensor(first_filter=k * out_channels, range_slot=k, levels=WEIGHT_LEVELS)
        for k in range(num_branches)
    ]


def weight_tensors(
    rows: ActiveRows, plan: BranchPlan, *, channels: tuple[int, int], is_depthwise: bool
) -> tuple[list[WeightTensor], list[int]]:
    """The tensors of codes of a layer (input, output channels), and which one each row reads.

    D1 takes the range of the row's position, B1 the window's offset in input channels, D4 as many
    levels as the activations have. ValueError where a window of B1 would leave the weights.
    """
    out_channels = channels[1]
    switches = plan.switches
    is_moved = switches["weight_offset"] == "input_channels"
    tensors = by_branch(plan.num_branches, out_channels)
    found: list[int] = []
    for bits, branch, position in rows.places:
        first = first_filter(branch, position, channels=channels, is_moved=is_moved)
        if first + out_channels > plan.num_branches * out_channels:
            raise ValueError("weight_offset = input_channels: a layer here has too few outputs")
        is_wide = is_depthwise and switches["depthwise_bits"] == "width"
        one = WeightTensor(
            first_filter=first,
            range_slot=position if switches["range_index"] == "position" else branch,
            levels=2**bits - 1 if is_wide else WEIGHT_LEVELS,
        )
        if one not in tensors:
            tensors.append(one)
        found.append(tensors.index(one))
    if set(found) <= set(range(plan.num_branches)):  # nothing but branches: all of them, in order
        return tensors[: plan.num_branches], found
    read = sorted(set(found))
    return [tensors[t] for t in read], [read.index(t) for t in found]


def _geometry(source: nn.Conv2d | nn.Linear) -> tuple[Pair, Pair, Pair] | None:
    """(stride, padding, dilation) of a convolution, None of a linear map.

    ValueError for groups, unless each is a channel, and for a bias: a batch norm follows every
    layer of a body.
    """
    if source.bias is not None:
        raise ValueError("a body layer of branches has no bias: a batch norm follows it")
    if isinstance(source, nn.Linear):
        return None
    is_depthwise = source.groups == source.in_channels == source.out_channels
    if (source.groups != 1 and not is_depthwise) or isinstance(source.padding, str):
        raise ValueError(
            "branches need convolutions of one group, or depthwise ones, with numeric padding"
        )
    stride, padding, dilation = (
        (int(one[0]), int(one[1])) for one in (source.stride, source.padding, source.dilation)
    )
    return stride, padding, dilation
