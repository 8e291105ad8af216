"""The modules of a body that is kept in 2-bit branches; a bit-width runs some of them.

Rows are branches at work at a width. All active rows pass through the body at once, as groups of
channels: first the full rows by ascending width, then the narrow ones of the odd widths. Which
branch serves which width is arithmetic of `methods.declared.branch_table`.
Letters: N images, K branches, R rows, C or I channels in, O channels out, W widths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.methods.declared.branch_table import (
    BRANCH_BITS,
    BranchTable,
    NarrowLayer,
)
from bitsweep_trainers.packed.pack import Place, folded_of
from bitsweep_trainers.packed.records import BranchNormRecord, BranchRecord
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

Norm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPlan:
    """How a body becomes branches.

    `noise`: standard deviation of what is added to each branch's copy of a weight tensor, in
    standard deviations of that tensor. `range_factor`: l and u begin at -/+ this many.
    """

    table: BranchTable
    num_branches: int
    noise: float
    range_factor: float
    backend: str = "eager"


class ActiveRows(nn.Module):
    """Which rows run; one object that all layers of a body share.

    The index tensors are buffers, so that they follow the network to its device, but no part of
    its state.
    """

    full_rows: Tensor
    full_branches: Tensor
    narrow_rows: Tensor
    narrow_branches: Tensor
    levels: Tensor
    averaging: Tensor

    def __init__(self, table: BranchTable) -> None:
        super().__init__()
        uses = [(bits, use) for bits in sorted(table) for use in table[bits]]
        self.full = tuple((b, use.branch) for b, use in uses if not use.is_narrow)
        self.narrow = tuple((b, use.branch) for b, use in uses if use.is_narrow)
        self.all_widths = tuple(sorted(table))
        self.widths: tuple[int, ...] = ()
        self.is_calibrating = False
        self.register_buffer("levels", torch.empty(0), persistent=False)
        self.activate(self.all_widths)

    def activate(self, widths: Sequence[int]) -> None:
        """Run these widths, ascending, until told otherwise; ValueError for one not in the table.

        `averaging` (W, R) makes each width's output the mean of its rows.
        """
        if unknown := set(widths) - set(self.all_widths):
            raise ValueError(f"bits must be among {self.all_widths}, got {sorted(unknown)}")
        if tuple(widths) == self.widths:
            return
        self.widths = tuple(widths)
        full = [i for i, (bits, _) in enumerate(self.full) if bits in widths]
        narrow = [i for i, (bits, _) in enumerate(self.narrow) if bits in widths]
        active = [self.full[i] for i in full] + [self.narrow[i] for i in narrow]
        self._index("full_rows", full)
        self._index("narrow_rows", narrow)
        self._index("full_branches", [self.full[i][1] for i in full])
        self._index("narrow_branches", [self.narrow[i][1] for i in narrow])
        served = [[float(bits == one) for bits, _ in active] for one in widths]
        self._floats("averaging", [[one / sum(row) for one in row] for row in served])
        self._floats("levels", [2.0**bits - 1 for bits, _ in active])

    @property
    def num_active(self) -> int:
        """R: the rows that run."""
        return len(self.levels)

    @property
    def is_whole(self) -> bool:
        """True when every width runs."""
        return self.widths == self.all_widths

    def _index(self, name: str, values: Sequence[int]) -> None:
        index = torch.tensor(values, dtype=torch.int64, device=self.levels.device)
        self.register_buffer(name, index, persistent=False)

    def _floats(self, name: str, values: Sequence[object]) -> None:
        floats = torch.tensor(values, dtype=self.levels.dtype, device=self.levels.device)
        self.register_buffer(name, floats, persistent=False)


class FanOut(nn.Module):
    """Give every row the stem's output: (N, C, ...) -> (N, R C, ...), each row's values dense."""

    def __init__(self, rows: ActiveRows) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, features: Tensor) -> Tensor:
        """Copies, one a row."""
        return features.contiguous().repeat(1, self.rows.num_active, *(1,) * (features.dim() - 2))


class BranchMean(nn.Module):
    """Average each width's rows: (N, R C, ...) -> (W N, C, ...), ascending widths stacked."""

    def __init__(self, rows: ActiveRows) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, features: Tensor) -> Tensor:
        """Means, so that a narrow row weighs as much as a full one."""
        by_row = torch.unflatten(features, 1, (self.rows.num_active, -1))
        means_NWM = torch.matmul(self.rows.averaging, by_row.flatten(2))
        return means_NWM.transpose(0, 1).reshape(-1, *by_row.shape[2:])


class BranchLayer(nn.Module):
    """K branches of a convolution or linear map, each with 2-bit weights.

    Weights (K O, I, ...) and their ranges (K,) belong to a branch; input ranges belong to a row,
    full rows before narrow ones. Every branch is quantized once in a forward pass, whatever the
    number of rows that read it, and its gradient is summed over them before it is taken back.
    """

    levels_K: Tensor

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
        self.kernels: Kernels = kernels_of(plan.backend)
        self.geometry = _geometry(source)
        weight = source.weight.detach()
        drawn = torch.randn(
            (plan.num_branches, *weight.shape), generator=generator, dtype=weight.dtype
        )
        branches = weight + plan.noise * weight.std() * drawn.to(weight.device)
        lower, upper = weight_range(branches.flatten(1), plan.range_factor)
        num_rows = len(rows.full) + len(rows.narrow)
        self.weight = nn.Parameter(branches.flatten(0, 1))
        self.weight_lower = nn.Parameter(lower)
        self.weight_upper = nn.Parameter(upper)
        self.input_lower = nn.Parameter(weight.new_zeros(num_rows))
        self.input_upper = nn.Parameter(weight.new_ones(num_rows))
        self.register_buffer("levels_K", torch.full_like(lower, WEIGHT_LEVELS), persistent=False)

    @property
    def branches(self) -> Tensor:
        """The weights as (K, O, I, ...)."""
        return torch.unflatten(self.weight, 0, (len(self.weight_lower), -1))

    @property
    def range_parameters(self) -> list[nn.Parameter]:
        """What the quantizers learn."""
        return [self.weight_lower, self.weight_upper, self.input_lower, self.input_upper]

    def weight_codes(self) -> Tensor:
        """The 2-bit codes 0..3 (K, O, I, ...) of all branches; the same at any width."""
        branches = self.branches
        codes = interval_codes(
            branches.flatten(1).unsqueeze(0),
            self.weight_lower,
            self.weight_upper,
            self.levels_K,
            kernels=self.kernels,
        )
        return codes.view(branches.shape)

    def forward(self, features: Tensor) -> Tensor:
        """(N, sum of the rows' channels, ...) -> the same of the rows' outputs."""
        weights = weight_values(self.weight_codes())
        rows, num_full = self.rows, len(self.rows.full_rows)
        channels = num_full * self.weight.shape[1]
        outputs = []
        if num_full:
            outputs.append(
                self._compute(
                    features[:, :channels],
                    weights[rows.full_branches],
                    rows.full_rows,
                    rows.levels[:num_full],
                )
            )
        if self.narrow is not None and len(rows.narrow_rows):
            narrow = self.narrow
            outputs.append(
                self._compute(
                    features[:, channels:],
                    weights[rows.narrow_branches, : narrow.out_channels, : narrow.in_channels],
                    rows.narrow_rows + len(rows.full),
                    rows.levels[num_full:],
                )
            )
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)

    def _compute(self, x: Tensor, weights: Tensor, index: Tensor, levels: Tensor) -> Tensor:
        """x (N, R I, ...), weights (R, O, I, ...), index and levels (R,) -> (N, R O, ...).

        The value of an activation is code / levels; the division is done on the weights, which
        are fewer.
        """
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
            codes.view(x.shape),
            scaled.flatten(0, 1),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=len(index),
        )

    @torch.no_grad()
    def _set_input_ranges(self, x_NRM: Tensor, index: Tensor) -> None:
        lower, upper = activation_range(x_NRM)
        self.input_lower[index] = lower
        self.input_upper[index] = upper

    @torch.no_grad()
    def pack_part(self, place: Place) -> BranchRecord:
        """What a packed file keeps."""
        return BranchRecord(
            codes=Codes.of(self.weight_codes().flatten(0, 1), bits=BRANCH_BITS),
            weight_lower=self.weight_lower.detach(),
            weight_upper=self.weight_upper.detach(),
            input_lower=self.input_lower.detach(),
            input_upper=self.input_upper.detach(),
        )


Pair = tuple[int, int]


def _geometry(source: nn.Conv2d | nn.Linear) -> tuple[Pair, Pair, Pair] | None:
    """(stride, padding, dilation) of a convolution, None of a linear map; ValueError if grouped.

    A bias is refused too: a batch norm follows every layer of a body.
    """
    if source.bias is not None:
        raise ValueError("a body layer of branches has no bias: a batch norm follows it")
    if isinstance(source, nn.Linear):
        return None
    if source.groups != 1 or isinstance(source.padding, str):
        raise ValueError("branches need convolutions of one group with numeric padding")
    stride, padding, dilation = (
        (int(one[0]), int(one[1])) for one in (source.stride, source.padding, source.dilation)
    )
    return stride, padding, dilation


class BranchNorm(nn.Module):
    """A batch norm for each width, over the channels of its rows; all kept in flat vectors.

    Entries: C for each full row, then o for each narrow one.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, source: Norm, *, rows: ActiveRows, narrow_channels: int) -> None:
        super().__init__()
        self.rows = rows
        self.channels = source.num_features
        self.narrow_channels = narrow_channels
        self.eps = source.eps
        self.momentum = source.momentum or 0.0
        assert source.running_mean is not None and source.running_var is not None
        self.weight = nn.Parameter(self._tiled(source.weight))
        self.bias = nn.Parameter(self._tiled(source.bias))
        self.register_buffer("running_mean", self._tiled(source.running_mean))
        self.register_buffer("running_var", self._tiled(source.running_var))

    def _tiled(self, values: Tensor) -> Tensor:
        full = values.detach().repeat(len(self.rows.full))
        narrow = values.detach()[: self.narrow_channels].repeat(len(self.rows.narrow))
        return torch.cat([full, narrow])

    def _active(self) -> Tensor:
        """Indices of the active rows' channels."""
        full = torch.arange(self.channels, device=self.weight.device)
        narrow = torch.arange(self.narrow_channels, device=self.weight.device)
        first_narrow = len(self.rows.full) * self.channels
        return torch.cat(
            [
                (self.rows.full_rows.unsqueeze(1) * self.channels + full).flatten(),
                (self.rows.narrow_rows.unsqueeze(1) * self.narrow_channels + narrow).flatten()
                + first_narrow,
            ]
        )

    def forward(self, features: Tensor) -> Tensor:
        """Normalise all rows; in training update the statistics of the active ones alone."""
        if self.rows.is_whole:
            return self._normalise(
                features, self.running_mean, self.running_var, self.weight, self.bias
            )
        index = self._active()
        mean, var = self.running_mean[index], self.running_var[index]
        normalised = self._normalise(features, mean, var, self.weight[index], self.bias[index])
        if self.training:
            self.running_mean[index] = mean
            self.running_var[index] = var
        return normalised

    def _normalise(
        self, features: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        return functional.batch_norm(
            features, mean, var, weight, bias, self.training, self.momentum, self.eps
        )

    def pack_part(self, place: Place) -> BranchNormRecord:
        """What a packed file keeps."""
        rows = folded_of(self.weight, self.bias, self.running_mean, self.running_var, self.eps)
        return BranchNormRecord(rows=rows)


class BranchShortcut(nn.Module):
    """A shortcut without weights, row by row: pixels left out, zero channels added.

    Full channel j goes to j + before. A narrow row keeps the first `narrow_out` of these, and
    gets zeros where it has fewer.
    """

    def __init__(
        self,
        *,
        rows: ActiveRows,
        channels: tuple[int, int],
        narrow_channels: tuple[int, int],
        stride: int,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.channels = channels
        self.narrow_channels = narrow_channels
        self.stride = stride
        self.before = (channels[1] - channels[0]) // 2

    def forward(self, features: Tensor) -> Tensor:
        """(N, sum of the rows' channels, H, W) -> the same at the output's channels and size."""
        pixels = features[:, :, :: self.stride, :: self.stride]
        num_full, num_narrow = len(self.rows.full_rows), len(self.rows.narrow_rows)
        split = num_full * self.channels[0]
        fitted = self._fit(pixels[:, :split], num_full, self.channels)
        if num_narrow == 0:
            return fitted
        narrow = self._fit(pixels[:, split:], num_narrow, self.narrow_channels)
        return torch.cat([fitted, narrow], 1)

    def _fit(self, pixels: Tensor, num_rows: int, channels: tuple[int, int]) -> Tensor:
        """(N, R in, H, W) -> (N, R out, H, W)."""
        given, wanted = channels
        after = max(0, wanted - given - self.before)
        by_row = torch.unflatten(pixels, 1, (num_rows, given))
        padded = functional.pad(by_row, (0, 0, 0, 0, self.before, after))
        return padded[:, :, :wanted].flatten(1, 2)
