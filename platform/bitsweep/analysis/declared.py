"""The comparisons that a sweep file declares, with their tests and Holm's correction over them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bitsweep.analysis.by_image import Answers, ByImage
from bitsweep.analysis.cell import FULL_PRECISION, Cell, cells_by_image, paired_cells
from bitsweep.analysis.paired import Paired, attainable_p, holm
from bitsweep.store.records import ComparisonRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A declared comparison with its tests; `adjusted_p` over the family of primary ones.

    `against_at` is where the other side stands: the same allocation, or another one. bitops: of
    both sides, by the sweep's convention.
    """

    arm: str
    against: str
    at: str
    against_at: str
    is_primary: bool
    result: Paired | None
    adjusted_p: float | None
    attainable: float | None
    by_image: ByImage | None = None
    bitops: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """Both sides: "a - b at w2a2", or each with its own where they differ."""
        if self.at == self.against_at:
            return f"{self.arm} - {self.against} at {self.at}"
        return f"{self.arm} at {self.at} - {self.against} at {self.against_at}"

    def document(self) -> dict[str, Any]:
        """Plain JSON values; a comparison without a common seed has a `result` of null."""
        return {
            "arm": self.arm,
            "at": self.at,
            "against": self.against,
            "against_at": self.against_at,
            "is_primary": self.is_primary,
            "result": None if self.result is None else asdict(self.result),
            "holm_p": self.adjusted_p,
            "attainable_p": self.attainable,
            "bitops": self.bitops,
        }


def compared(
    declared: Sequence[ComparisonRow],
    cells: Mapping[tuple[str, str], Cell],
    answers: Answers,
) -> tuple[Compared, ...]:
    """Each declared comparison on the seeds that both its cells have.

    Holm's family is all that were declared in time: one without a common seed counts with p = 1.
    """
    sides = [_sides(one, cells) for one in declared]
    results = [None if pair is None else paired_cells(*pair) for pair in sides]
    family = [index for index, one in enumerate(declared) if one.is_primary]
    adjusted = holm([_p(results[index]) for index in family])
    adjusted_by = dict(zip(family, adjusted, strict=True))
    return tuple(
        Compared(
            arm=one.arm,
            against=one.against,
            at=one.at,
            against_at=one.against_at,
            is_primary=one.is_primary,
            result=result,
            adjusted_p=None if result is None else adjusted_by.get(index),
            attainable=attainable_p(family=len(family), seeds=result.n)
            if result is not None and one.is_primary
            else None,
            by_image=None if pair is None else cells_by_image(*pair, answers),
            bitops=None if pair is None else (pair[0].bitops, pair[1].bitops),
        )
        for index, (one, result, pair) in enumerate(zip(declared, results, sides, strict=True))
    )


def _p(result: Paired | None) -> float:
    return 1.0 if result is None else result.p_permutation


def _sides(one: ComparisonRow, cells: Mapping[tuple[str, str], Cell]) -> tuple[Cell, Cell] | None:
    left, right = _cell_of(one.arm, one.at, cells), _cell_of(one.against, one.against_at, cells)
    return None if left is None or right is None else (left, right)


def _cell_of(arm: str, at: str, cells: Mapping[tuple[str, str], Cell]) -> Cell | None:
    """An arm's cell at these bits; a full-precision arm has but one."""
    return cells.get((arm, at)) or cells.get((arm, FULL_PRECISION))
