"""Which branches of an MBQuant network serve which bit-width, and how narrow a half-branch is.

Arithmetic on bit-widths and declared layers alone; the tensors are in `branches`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from bitsweep.cost import Layer

BRANCH_BITS = 2
NARROW_RATIO = (0.48, 0.50)
POLICIES = ("paper_code", "nested", "balanced")
_NEIGHBOURHOOD = range(-2, 3)


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

    >>> [use.branch for use in branch_table((2, 4, 6, 8), 4, "paper_code")[4]]
    [1, 2]
    """
    if num_branches < branches_for(max(bits)):
        raise ValueError(
            f"num_branches must be at least {branches_for(max(bits))} for {max(bits)} bits, "
            f"got {num_branches}"
        )
    policies = {"paper_code": _paper_code, "nested": _nested, "balanced": _balanced}
    return policies[policy](sorted(bits), num_branches)


def loads(table: BranchTable, num_branches: int) -> tuple[int, ...]:
    """How many widths each branch serves, a narrow use counted as one."""
    return tuple(len(role) for role in _roles(table, num_branches))


def num_twins(table: BranchTable, num_branches: int) -> int:
    """Pairs of branches that serve the same widths in the same way.

    Twins that start with equal weights have equal gradients for ever; one of them is wasted.
    """
    roles = _roles(table, num_branches)
    return sum(roles[i] == roles[j] for i in range(num_branches) for j in range(i))


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
    if max(bits) <= 4:
        return _nested(bits, num_branches)
    return {b: _window(b, int(b >= 4 and branches_for(b) < num_branches)) for b in bits}


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
    stages = tuple(dict.fromkeys(one.out_channels for one in _main_path(body) if one is not last))
    if not stages:
        raise ValueError("odd bits need a body of two layers at least: a branch cannot be halved")
    uniform = _widest_uniform(body, stages)
    candidates = []
    for steps in product(_NEIGHBOURHOOD, repeat=len(stages)):
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
    return [layer for layer in body if not _is_shortcut(layer)]


def _is_shortcut(layer: Layer) -> bool:
    return ".shortcut" in layer.name


def _slices(body: Sequence[Layer], widths: Mapping[int, int]) -> dict[str, NarrowLayer]:
    """Follow the channels (full, narrow) through the body, given the narrow width of each full."""
    last = _main_path(body)[-1]
    here = body[0].in_channels, body[0].in_channels
    entries: dict[str, tuple[int, int]] = {}
    slices: dict[str, NarrowLayer] = {}
    for layer in body:
        if _is_shortcut(layer):
            full, narrow = entries[layer.name.split(".shortcut")[0]]
            out = here[1]
        else:
            full, narrow = here
            entries.setdefault(layer.name.rpartition(".")[0], here)
            is_last = layer is last
            out = layer.out_channels if is_last else widths[layer.out_channels]
            here = layer.out_channels, out
        in_channels = narrow * (layer.in_channels // full)
        slices[layer.name] = NarrowLayer(
            in_channels=in_channels,
            out_channels=out,
            mac_ratio=in_channels * out / (layer.in_channels * layer.out_channels),
        )
    return slices
