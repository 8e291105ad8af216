"""Student's t in closed form against mpmath's, and a table that needs neither scipy nor numpy."""

import subprocess
import sys

import mpmath
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitsweep.analysis.student import below, quantile, two_sided_p, within


def outside(t: float, freedom: int) -> float:
    """P(|T| >= |t|) to fifty digits: scipy is 1.3e-13 off at t = 1e-5, one degree of freedom."""
    with mpmath.workdps(50):
        share = mpmath.mpf(freedom) / (freedom + mpmath.mpf(t) ** 2)
        half = mpmath.mpf(1) / 2
        return float(mpmath.betainc(half * freedom, half, 0, share, regularized=True))


@example(1e-5, 1)
@given(st.floats(-60, 60), st.integers(1, 40))
def test_the_distribution_is_that_of_mpmath(t: float, freedom: int) -> None:
    p = outside(t, freedom)

    assert two_sided_p(t, freedom=freedom) == pytest.approx(p, abs=1e-13)
    assert below(t, freedom=freedom) == pytest.approx(p / 2 if t < 0 else 1 - p / 2, abs=1e-13)


@given(st.floats(0.01, 0.999), st.integers(1, 40))
def test_the_quantile_is_where_the_distribution_has_its_share(share: float, freedom: int) -> None:
    t = quantile(share, freedom=freedom)

    assert 1 - outside(t, freedom) == pytest.approx(share, abs=1e-12)


def test_what_is_no_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        within(1.0, freedom=0)
    with pytest.raises(ValueError, match="up to below 1"):
        quantile(1.0, freedom=3)


def test_a_table_loads_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys, bitsweep.analysis.render, bitsweep.analysis.selection as s, "
        "bitsweep.analysis.paired as p; p.paired([3, 2, 1, 5, 3], total=10); "
        "s.tost([0.3, 0.2], margin=0.3); print({'numpy', 'scipy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
