"""Which branches of an MBQuant network serve which bit-width, and how narrow a half-branch is.

Arithmetic on bit-widths and declared layers alone; the tensors are in `branches`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from bitsweep.cost import Layer
from bitsweep_trainers.models.projections import projected_block

BRANCH_BITS = 2
NARROW_RATIO = (0.48, 0.50)
FIXED_POLICIES = ("paper_code", "nested", "balanced", "amortized")
RANDOM = "random"
POLICIES = (*FIXED_POLICIES, RANDOM)
_NEIGHBOURHOOD = range(-2, 3)
_MOST_MOVED = 5  # of many widths only the largest leave the uniform fraction: 5^5 candidates


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BranchUse:
    """One branch at work for a width; narrow: only the slice [:o, :i] of each of its weights."""

    branch: int
    is_narrow: bool = False


BranchTable = Mapping[int, tuple[BranchUse, ...]]
Role = tuple[tuple[int, bool], ...]


def branches_for(bits: int) -> int:
    """How many branches serve b bits, a narrow one counted: ceil(b / 2).

    >>> [branches_for(b) for b in (2, 3, 4, 8)]
    [1, 2, 2, 4]
    """
    return -(-bits // BRANCH_BITS)


def is_odd(bits: int) -> bool:
    """True when the last branch of b bits is narrow."""
    return bits % BRANCH_BITS == 1


@cache
def branch_table(bits: tuple[int, ...], num_branches: int, policy: str) -> BranchTable:
    """The branches of each width, full ones first; ValueError if there are too few branches.

    "random" draws a table in every step: its table holds all that may be drawn.

    >>> [use.branch for use in branch_table((2, 4, 6, 8), 4, "paper_code")[4]]
    [1, 2]
    """
    if num_branches < branches_for(max(bits)):
        raise ValueError(
            f"num_branches must be at least {branches_for(max(bits))} for {max(bits)} bits, "
            f"got {num_branches}"
        )
    policies = {
        "paper_code": _paper_code,
        "nested": _nested,
        "balanced": _balanced,
        "amortized": _amortized,
        RANDOM: _every_use,
    }
    return policies[policy](sorted(bits), num_branches)


def serving_table(bits: tuple[int, ...], num_branches: int, policy: str) -> BranchTable:
    """The branches that a trained network runs: its table, or the authors' if it drew tables."""
    return branch_table(bits, num_branches, "paper_code" if policy == RANDOM else policy)


def is_window(uses: Sequence[BranchUse]) -> bool:
    """Whether these are neighbouring branches in ascending order."""
    first = uses[0].branch
    return [use.branch for use in uses] == list(range(first, first + len(uses)))


def stands_by_number(table: BranchTable) -> bool:
    """Whether every branch stands at its own number among those that a width selects."""
    return all(use.branch == at for uses in table.values() for at, use in enumerate(uses))


def loads(table: BranchTable, num_branches: int) -> tuple[int, ...]:
    """How many widths each branch serves, a narrow use counted as one."""
    return tuple(len(role) for role in _roles(table, num_branches))


def num_twins(table: BranchTable, num_branches: int) -> int:
    """Pairs of branches that serve the same widths in the same way.

    Twins that start with equal weights have equal gradients for ever; one of them is wasted.
    """
    roles = _roles(table, num_branches)
    return sum(roles[i] == roles[j] for i in range(num_branches) for j in range(i))


def twins_at_work(table: BranchTable, num_branches: int) -> tuple[int, ...]:
    """The first branches that are alike in this and serve some width; () if there are none.

    >>> twins_at_work(branch_table((2, 4, 6, 8), 4, "paper_code"), 4)
    (1, 2)
    """
    alike: dict[Role, list[int]] = {}
    for branch, role in enumerate(_roles(table, num_branches)):
        alike.setdefault(role, []).append(branch)
    return next((tuple(one) for role, one in alike.items() if role and len(one) > 1), ())


def _roles(table: BranchTable, num_branches: int) -> tuple[Role, ...]:
    """The widths that each branch serves, and whether as a narrow one."""
    return tuple(
        tuple((b, use.is_narrow) for b, uses in table.items() for use in uses if use.branch == k)
        for k in range(num_branches)
    )


def _window(bits: int, start: int) -> tuple[BranchUse, ...]:
    """Neighbouring branches from `start`; at odd b the last of them is narrow."""
    last = start + branches_for(bits) - 1
    full = tuple(BranchUse(branch=k) for k in range(start, last))
    return (*full, BranchUse(branch=last, is_narrow=is_odd(bits)))


def _nested(bits: Sequence[int], num_branches: int) -> BranchTable:
    """Always the first branches: branch 0 serves every width."""
    return {b: _window(b, 0) for b in bits}


def _paper_code(bits: Sequence[int], num_branches: int) -> BranchTable:
    """The table of the authors' code: from 4 bits on branch 0 rests while there is a spare one.

    Where no width exceeds 4 bits their code always takes the first branches.
    """
    return _nested(bits, num_branches) if max(bits) <= 4 else _amortized(bits, num_branches)


def _amortized(bits: Sequence[int], num_branches: int) -> BranchTable:
    """The same table wherever there is a spare branch, whatever the largest width (no D5)."""
    return {b: _window(b, int(b >= 4 and branches_for(b) < num_branches)) for b in bits}


def _every_use(bits: Sequence[int], num_branches: int) -> BranchTable:
    """Every branch at every width, and as the narrow one at every odd width."""
    full = tuple(BranchUse(branch=k) for k in range(num_branches))
    narrow = tuple(BranchUse(branch=k, is_narrow=True) for k in range(num_branches))
    return {b: full + narrow if is_odd(b) else full for b in bits}


def _balanced(bits: Sequence[int], num_branches: int) -> BranchTable:
    """The least (max load, sum of squared loads, twins), in this order.

    The authors' table, or the nested one, where no other table is better.
    """
    best: tuple[tuple[int, int, int], BranchTable] | None = None
    simple = (_paper_code(bits, num_branches), _nested(bits, num_branches))
    for table in (*simple, *_first_without_twins(bits, num_branches)):
        counts = loads(table, num_branches)
        figure = max(counts), sum(n * n for n in counts), num_twins(table, num_branches)
        if best is None or figure < best[0]:
            best = figure, table
    assert best is not None
    return {b: best[1][b] for b in bits}


def _first_without_twins(bits: Sequence[int], num_branches: int) -> list[BranchTable]:
    """Even tables in the order of search, up to the first in which no two branches are twins."""
    found: list[BranchTable] = []
    for table in _even_tables(bits[::-1], {}, num_branches, sum(map(branches_for, bits))):
        found.append(table)
        if num_twins(table, num_branches) == 0:
            break
    return found


def _even_tables(
    rest: Sequence[int], chosen: BranchTable, num_branches: int, total: int
) -> Iterator[BranchTable]:
    """Ways to complete a table whose loads, `total` in all, differ by one at most.

    Branches with equal roles are interchangeable: only the first of them is tried.
    """
    least, num_heavier = divmod(total, num_branches)
    counts = loads(chosen, num_branches)
    if max(counts) > least + 1 or sum(n > least for n in counts) > num_heavier:
        return
    if not rest:
        yield chosen
        return
    for uses in _choices(rest[0], _roles(chosen, num_branches)):
        yield from _even_tables(rest[1:], {**chosen, rest[0]: uses}, num_branches, total)


def _choices(bits: int, roles: tuple[Role, ...]) -> Iterator[tuple[BranchUse, ...]]:
    """Ways to serve b bits, different up to renaming branches of equal roles."""
    for full in _subsets(bits // BRANCH_BITS, roles, taken=()):
        uses = tuple(BranchUse(branch=k) for k in full)
        if not is_odd(bits):
            yield uses
            continue
        for (narrow,) in _subsets(1, roles, taken=full):
            yield (*uses, BranchUse(branch=narrow, is_narrow=True))


def _subsets(
    size: int, roles: tuple[Role, ...], *, taken: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Subsets of the free branches; of those with equal roles always the first ones."""
    alike: dict[Role, list[int]] = {}
    for branch, role in enumerate(roles):
        if branch not in taken:
            alike.setdefault(role, []).append(branch)
    classes = list(alike.values())
    for counts in product(*(range(len(one), -1, -1) for one in classes)):
        if sum(counts) == size:
            picked = (one[:n] for one, n in zip(classes, counts, strict=True))
            yield tuple(sorted(k for some in picked for k in some))


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowLayer:
    """The slice [:out_channels, :in_channels] of a layer that a narrow branch computes."""

    in_channels: int
    out_channels: int
    mac_ratio: float


@cache
def narrow_layers(layers: tuple[Layer, ...]) -> Mapping[str, NarrowLayer]:
    """The narrow branch's slice of each body layer, by name; ValueError if none costs a half.

    Layers of equal width get equal narrow widths. The first body layer reads all channels of the
    stem, the last one writes all channels of the body, a shortcut follows the block around it. Of
    the nearly uniform widths the one is taken whose share of the body's MACs comes closest to,
    and does not exceed, 0.50; it is at least 0.48.
    """
    body = [layer for layer in layers if layer.place == "body"]
    last = _main_path(body)[-1]
    free = [one for one in _main_path(body) if one is not last and one.groups == 1]
    stages = tuple(dict.fromkeys(one.out_channels for one in free))
    if not stages:
        raise ValueError("odd bits need a body of two layers at least: a branch cannot be halved")
    uniform = _widest_uniform(body, stages)
    candidates = []
    moved = sorted(stages)[-_MOST_MOVED:]
    neighbourhood = [_NEIGHBOURHOOD if one in moved else (0,) for one in stages]
    for steps in product(*neighbourhood):
        widths = {
            full: min(max(uniform[full] + step, 1), full)
            for full, step in zip(stages, steps, strict=True)
        }
        ratio = mac_ratio(body, widths)
        if NARROW_RATIO[0] <= ratio <= NARROW_RATIO[1]:
            candidates.append((-ratio, sum(map(abs, steps)), tuple(widths.items())))
    if not candidates:
        raise ValueError("odd bits: no narrow branch has between 0.48 and 0.50 of the body's MACs")
    return _slices(body, dict(min(candidates)[2]))


def _widest_uniform(body: Sequence[Layer], stages: Sequence[int]) -> dict[int, int]:
    """The widths round(f C) of the greatest fraction f whose MACs do not exceed the half."""
    finest = max(stages)
    widths = dict.fromkeys(stages, 1)
    for step in range(1, finest + 1):
        wider = {full: max(1, round(full * step / finest)) for full in stages}
        if mac_ratio(body, wider) > NARROW_RATIO[1]:
            break
        widths = wider
    return widths


def mac_ratio(body: Sequence[Layer], widths: Mapping[int, int]) -> float:
    """MACs of a narrow branch over those of a full one, given the narrow width of each full one.

    The last layer off the shortcuts always writes its full width.
    """
    slices = _slices(body, widths)
    narrow = sum(layer.macs * slices[layer.name].mac_ratio for layer in body)
    return narrow / sum(layer.macs for layer in body)


def _main_path(body: Sequence[Layer]) -> list[Layer]:
    return [layer for layer in body if projected_block(layer.name) is None]


def _slices(body: Sequence[Layer], widths: Mapping[int, int]) -> dict[str, NarrowLayer]:
    """Follow the channels (full, narrow) through the body, given the narrow width of each full."""
    last = _main_path(body)[-1]
    here = body[0].in_channels, body[0].in_channels
    entries: dict[str, tuple[int, int]] = {}
    slices: dict[str, NarrowLayer] = {}
    for layer in body:
        block = projected_block(layer.name)
        if block is not None:
            full, narrow = entries[block]
            out = here[1]
        else:
            full, narrow = here
            entries.setdefault(layer.name.rpartition(".")[0], here)
            if layer is last:
                out = layer.out_channels
            elif layer.groups > 1:  # depthwise: as many channels as come in
                out = narrow
            else:
                out = widths[layer.out_channels]
            here = layer.out_channels, out
        slices[layer.name] = _slice(layer, narrow * (layer.in_channels // full), out)
    return slices


def _slice(layer: Layer, in_channels: int, out_channels: int) -> NarrowLayer:
    """A depthwise layer's MACs grow with its channels, any other's with their product."""
    ratio = out_channels / layer.out_channels
    if layer.groups == 1:
        ratio *= in_channels / layer.in_channels
    return NarrowLayer(in_channels=in_channels, out_channels=out_channels, mac_ratio=ratio)
