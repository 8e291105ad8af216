"""Which branches of a body run: rows, their fan-out, their mean and their shuffle.

Rows are branches at work at a width. All active rows pass through the body at once, as groups of
channels: first the full rows by ascending width, then the narrow ones of the odd widths. Which
branch serves which width is arithmetic of `methods.declared.branch_table`.
Letters: N images, R rows, C channels, W widths.
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from bitsweep_trainers.methods.declared.branch_table import BranchTable, BranchUse, is_odd


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

    def __init__(self, table: BranchTable, serving: BranchTable | None = None) -> None:
        super().__init__()
        self.serving = dict(table if serving is None else serving)
        uses = [(bits, use) for bits in sorted(table) for use in table[bits]]
        self.full = tuple((b, use.branch) for b, use in uses if not use.is_narrow)
        self.narrow = tuple((b, use.branch) for b, use in uses if use.is_narrow)
        self.all_widths = tuple(sorted(table))
        self.table = table
        self.widths: tuple[int, ...] = ()
        self.running: BranchTable = {}
        self.is_calibrating = False
        self.register_buffer("levels", torch.empty(0), persistent=False)
        self.activate_all()

    @property
    def places(self) -> list[tuple[int, int, int]]:
        """(bits, branch, position among the branches of its width) of each row, full ones first.

        Where tables are drawn a branch has no position but its number.
        """
        is_drawn = self.serving != dict(self.table)
        at = {
            (bits, use): use.branch if is_drawn else position
            for bits, uses in self.table.items()
            for position, use in enumerate(uses)
        }
        full = [(b, k, at[b, BranchUse(branch=k)]) for b, k in self.full]
        return full + [(b, k, at[b, BranchUse(branch=k, is_narrow=True)]) for b, k in self.narrow]

    def activate_all(self) -> None:
        """Run every row of every width."""
        self._run({bits: self.table[bits] for bits in self.all_widths})

    def activate(self, widths: Sequence[int], drawn: BranchTable | None = None) -> None:
        """Run these widths, ascending, until told otherwise; ValueError for one not in the table.

        Their branches are those that serve, unless other ones are drawn.
        """
        if unknown := set(widths) - set(self.all_widths):
            raise ValueError(f"bits must be among {self.all_widths}, got {sorted(unknown)}")
        uses = self.serving if drawn is None else drawn
        self._run({bits: uses[bits] for bits in widths})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """After a change of device or precision the means are made anew, not rounded twice."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's own
        uses, self.running = self.running, {}
        self._run(uses)
        return self

    def activate_row(self, bits: int, use: BranchUse) -> None:
        """Run one row alone."""
        self._run({bits: (use,)})

    def _run(self, uses: BranchTable) -> None:
        """`averaging` (W, R) makes each width's output the mean of its rows."""
        if uses == self.running and tuple(uses) == self.widths:
            return
        widths = self.widths = tuple(uses)
        self.running = uses
        at_work = {(bits, use) for bits, some in uses.items() for use in some}
        full = [i for i, (b, k) in enumerate(self.full) if (b, BranchUse(branch=k)) in at_work]
        narrow = [
            i
            for i, (b, k) in enumerate(self.narrow)
            if (b, BranchUse(branch=k, is_narrow=True)) in at_work
        ]
        active = [self.full[i] for i in full] + [self.narrow[i] for i in narrow]
        self._index("full_rows", full)
        self._index("narrow_rows", narrow)
        self._index("full_branches", [self.full[i][1] for i in full])
        self._index("narrow_branches", [self.narrow[i][1] for i in narrow])
        served = [[float(bits == one) for bits, _ in active] for one in widths]
        self._floats("averaging", [[one / sum(row) for one in row] for row in served])
        self._floats("levels", [2.0**bits - 1 for bits, _ in active])

    @property
    def active_places(self) -> list[tuple[int, int, int]]:
        """`places` of the rows that run."""
        places = self.places
        narrow = [len(self.full) + int(one) for one in self.narrow_rows]
        return [places[int(one)] for one in (*self.full_rows.tolist(), *narrow)]

    @property
    def num_active(self) -> int:
        """R: the rows that run."""
        return len(self.levels)

    @property
    def is_whole(self) -> bool:
        """True when every row runs."""
        return self.num_active == len(self.full) + len(self.narrow)

    def _index(self, name: str, values: Sequence[int]) -> None:
        index = torch.tensor(values, dtype=torch.int64, device=self.levels.device)
        self.register_buffer(name, index, persistent=False)

    def _floats(self, name: str, values: Sequence[object]) -> None:
        floats = torch.tensor(values, dtype=self.levels.dtype, device=self.levels.device)
        self.register_buffer(name, floats, persistent=False)


class FanOut(nn.Module):
    """Give every row the stem's output: (N, C, ...) -> (N, R C, ...), each row's values dense.

    One row alone gets it as it is, in its memory format.

    A wide stem has K C channels, and a row reads those of its branch. With `is_front` (slip B3) an
    odd width's rows read by position instead, and `front` holds what identity paths read.
    """

    def __init__(self, rows: ActiveRows, *, num_stems: int = 1, is_front: bool = False) -> None:
        super().__init__()
        self.rows = rows
        self.num_stems = num_stems
        self.is_front = is_front
        self.front: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Copies, one a row."""
        if self.num_stems > 1:
            return self._own_channels(features)
        if self.rows.num_active == 1:
            return features
        return features.contiguous().repeat(1, self.rows.num_active, *(1,) * (features.dim() - 2))

    def _own_channels(self, features: Tensor) -> Tensor:
        by_stem = torch.unflatten(features, 1, (self.num_stems, -1))
        read = [branch for _, branch, _ in self.rows.active_places]
        if self.is_front:
            front = [position for _, _, position in self.rows.active_places]
            self.front = by_stem[:, front].flatten(1, 2)
            read = [
                position if is_odd(bits) else branch
                for bits, branch, position in self.rows.active_places
            ]
        return by_stem[:, read].flatten(1, 2)


class FrontIdentity(nn.Module):
    """The identity path of the first block, which reads the stem from the front (slip B3)."""

    def __init__(self, fan_out: FanOut, shortcut: nn.Module) -> None:
        super().__init__()
        self.fan_out = [fan_out]  # in a list: no second path to its parameters
        self.shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        """What the fan-out kept; the features that every other block would pass on are not."""
        (fan_out,) = self.fan_out
        front, fan_out.front = fan_out.front, None
        assert front is not None and front.shape == features.shape
        passed: Tensor = self.shortcut(front)
        return passed


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


def num_groups(bits: int, channels: int) -> int:
    """g of the shuffle at b bits: b // 2; half up at b = 7 where that divides the channels.

    Where no such g divides them, the next smaller one that does.

    >>> [num_groups(bits, 48) for bits in (2, 3, 4, 5, 6, 7, 8)], num_groups(7, 42)
    ([1, 1, 2, 2, 3, 4, 4], 3)
    """
    most = 4 if bits == 7 else bits // 2
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def shuffled(channels: int, groups: int) -> list[int]:
    """out[i g + j] = in[j C/g + i]: which channel stands where (section 2.6).

    >>> shuffled(8, 2)
    [0, 4, 1, 5, 2, 6, 3, 7]
    """
    size = channels // groups
    return [j * size + i for i in range(size) for j in range(groups)]


class BranchShuffle(nn.Module):
    """Mix the channels of each width's branches, which stand in the order of their positions."""

    def __init__(self, rows: ActiveRows, *, channels: int, narrow_channels: int) -> None:
        super().__init__()
        self.rows = rows
        self.channels = channels
        self.narrow_channels = narrow_channels

    def order(self) -> list[int]:
        """Which channel of the active rows comes where."""
        rows = self.rows
        starts: dict[int, list[int]] = {bits: [] for bits in rows.widths}
        begin = 0
        for index, (bits, _, _) in enumerate(rows.active_places):
            count = self.channels if index < len(rows.full_rows) else self.narrow_channels
            starts[bits] += range(begin, begin + count)
            begin += count
        order = list(range(begin))
        for bits, places in starts.items():
            moved = shuffled(len(places), num_groups(bits, len(places)))
            for to, come in zip(places, moved, strict=True):
                order[to] = places[come]
        return order

    def forward(self, features: Tensor) -> Tensor:
        """(N, sum of the rows' channels, H, W) in another order of channels."""
        return features[:, torch.tensor(self.order(), device=features.device)]
