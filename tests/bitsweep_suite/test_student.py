"""Student's t in closed form against scipy's, and a table that needs neither scipy nor numpy."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bitsweep.analysis.student import below, quantile, two_sided_p, within


@given(st.floats(-60, 60), st.integers(1, 40))
def test_the_distribution_is_that_of_scipy(t: float, freedom: int) -> None:
    assert below(t, freedom=freedom) == pytest.approx(stats.t.cdf(t, freedom), abs=1e-13)
    assert two_sided_p(t, freedom=freedom) == pytest.approx(
        2 * stats.t.sf(abs(t), freedom), abs=1e-13
    )


@given(st.floats(0.01, 0.999), st.integers(1, 40))
def test_the_quantile_is_that_of_scipy(share: float, freedom: int) -> None:
    wanted = stats.t.ppf((1 + share) / 2, freedom)

    assert quantile(share, freedom=freedom) == pytest.approx(wanted, rel=1e-9)


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
