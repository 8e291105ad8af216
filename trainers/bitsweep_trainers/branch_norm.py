"""Batch norms and shortcuts of a body that is kept in branches: what stands between its layers.

What rows are and which of them run stands in `branch_rows`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.branch_rows import ActiveRows
from bitsweep_trainers.packed.pack import Place, folded_of
from bitsweep_trainers.packed.records import BranchNormRecord

Norm = nn.BatchNorm1d | nn.BatchNorm2d


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
