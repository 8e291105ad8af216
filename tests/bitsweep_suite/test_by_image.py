"""Two arms image by image: goldens of metrics.md, and a bootstrap that draws single images."""

from pathlib import Path

import numpy as np
import pytest
from tests.bitsweep_suite.tables import cell, table
from tests.bitsweep_suite.toys import FIXED, acting, ask_store, run_toy, toy_sweep

from bitsweep.analysis.by_image import bootstrap, by_image, discordant
from bitsweep.analysis.declared import Compared
from bitsweep.analysis.render import render
from bitsweep.analysis.selection import against
from bitsweep.analysis.table import sweep_table
from bitsweep.bits import tied
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Comparison, Confirm

KEPT = Confirm(seeds=(0, 1), keep_answers=True)
DECLARED = (Comparison(arm="good", against="fixed", at=tied(2)),)


def packed(hits: np.ndarray) -> bytes:
    """Right answers (N,) as a store keeps them."""
    return np.packbits(hits).tobytes()


def of_counts(left: int, right: int, *, total: int = 1000) -> tuple[bytes, bytes]:
    """Answers of two arms with so many images that only one of them has right."""
    one, other = np.zeros(total, bool), np.zeros(total, bool)
    one[:left] = True
    other[left : left + right] = True
    one[left + right : left + right + 500] = other[left + right : left + right + 500] = True
    return packed(one), packed(other)


def test_mcnemar_of_packed_answers_is_that_of_the_worked_example() -> None:
    found = by_image({0: of_counts(60, 40)}, total=1000)

    assert found is not None and found.pairs[0] is not None
    assert found.pairs[0].p_exact == pytest.approx(0.056888, abs=5e-7)
    assert found.mean == pytest.approx(2.0)


def test_discordant_images_are_counted_on_either_side() -> None:
    random = np.random.default_rng(3)
    one, other = random.random(1003) < 0.7, random.random(1003) < 0.6

    assert discordant(packed(one), packed(other)) == (
        int((one & ~other).sum()),
        int((other & ~one).sum()),
    )


def test_answers_to_another_test_set_are_no_pair() -> None:
    with pytest.raises(ValueError, match="other images"):
        discordant(bytes(3), bytes(4))


def test_checkpoints_that_never_disagree_have_no_test_and_no_interval_around_zero() -> None:
    found = by_image({0: of_counts(0, 0), 1: of_counts(0, 0)}, total=1000)

    assert found is not None
    assert (dict(found.pairs), found.low95, found.high95) == ({0: None, 1: None}, 0.0, 0.0)


def test_the_bootstrap_is_that_of_drawing_seeds_and_then_single_images() -> None:
    random = np.random.default_rng(5)
    counts, total = [(60, 40), (70, 35), (55, 45)], 500
    gains = [np.repeat([1, -1, 0], [a, b, total - a - b]) for a, b in counts]
    means = []
    for _ in range(4000):
        seeds = random.integers(len(counts), size=len(counts))
        drawn = [gains[seed][random.integers(total, size=total)] for seed in seeds]
        means.append(100.0 * np.mean(drawn))
    low, high = np.quantile(means, [0.025, 0.975])

    assert bootstrap(counts, total=total) == pytest.approx((low, high), abs=0.35)


def test_of_one_seed_the_interval_is_that_of_the_images() -> None:
    low, high = bootstrap([(60, 40)], total=1000)
    sd = 100.0 * ((0.1 - 0.02**2) / 1000) ** 0.5

    assert (low, high) == pytest.approx((2.0 - 1.96 * sd, 2.0 + 1.96 * sd), abs=0.1)


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = bootstrap([(50, 50)] * 4, total=1000)
    apart = bootstrap([(100, 0), (0, 100)] * 2, total=1000)

    assert apart[1] - apart[0] > 2 * (alike[1] - alike[0])


def kept_table(folder: Path, **changes: object) -> str:
    """The table of a run toy sweep of two arms, set against one of them."""
    run_toy(toy_sweep(FIXED, acting("well", name="good"), **changes), folder)
    reader = Reader(open_to_read(str(folder / "store.db")))
    from bitsweep.analysis.table import table_answers

    one = sweep_table(reader, "toy")
    text = render(against(one, "fixed", answers=table_answers(reader, one)), "text")
    reader.close()
    return text


def test_a_sweep_keeps_answers_of_test_where_it_says_so(tmp_path: Path) -> None:
    text = kept_table(tmp_path, confirm=KEPT)
    rows = ask_store(
        tmp_path,
        "SELECT m.split, LENGTH(a.bits), COUNT(*) FROM answers a "
        "JOIN measurements m ON m.id = a.measurement_id GROUP BY m.split, LENGTH(a.bits)",
    )

    assert rows == [("test", 125, 8)]
    assert "image by image on 2 seeds" in text and "McNemar" in text
    assert "exploratory." in text


def test_without_the_option_nothing_is_kept_and_nothing_said(tmp_path: Path) -> None:
    text = kept_table(tmp_path)

    assert ask_store(tmp_path, "SELECT COUNT(*) FROM answers") == [(0,)]
    assert "image by image" not in text and "exploratory." in text


def test_a_declared_comparison_has_it_in_the_table_itself(tmp_path: Path) -> None:
    text = kept_table(tmp_path, confirm=KEPT, comparisons=DECLARED)
    lines = [line for line in text.splitlines() if line.startswith("good - fixed at w2a2")]

    assert len(lines) == 2
    assert all("image by image on 2 seeds" in line for line in lines)
    assert lines[1].endswith("declared before it was measured.")
    assert "good - fixed at w3a3" in text and "exploratory." in text


def test_seeds_without_answers_are_left_out_and_counted() -> None:
    both = table(cell("a", "w2a2", (800, 820)), cell("b", "w2a2", (850, 860)))
    for one in both.cells.values():
        for seed in (0, 1):
            one.measured_by_seed[seed] = (f"{one.arm}{seed}", "w2a2")  # type: ignore[index]
    left, right = of_counts(60, 40)
    (found,) = against(
        both, "a", answers={("a0", "w2a2"): right, ("b0", "w2a2"): left, ("b1", "w2a2"): left}
    ).differences

    assert found.by_image is not None and list(found.by_image.pairs) == [0]


def test_a_comparison_declared_too_late_stays_exploratory() -> None:
    late = Compared(
        arm="b",
        against="a",
        at="w2a2",
        against_at="w2a2",
        is_primary=False,
        result=None,
        adjusted_p=None,
        attainable=None,
    )
    both = table(cell("a", "w2a2", (800, 820)), cell("b", "w2a2", (850, 860)), comparisons=(late,))

    assert not against(both, "a").differences[0].is_declared
