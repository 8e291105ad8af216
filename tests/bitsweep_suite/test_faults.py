"""Each fault of `benchmarks/faults.py` once: at a random moment, then the same command again."""

import os
from collections.abc import Iterator

import pytest
from tests.faults.catalog import FAULTS, strike
from tests.faults.scene import Fault, Grounds, Unavailable
from tests.real_parts import missing

QUICK = ("driver-search", "worker-before-sending", "torn-outbox", "sigterm")
SEED = int(os.environ.get("BITSWEEP_FAULT_SEED", "0"))


def _case(fault: Fault) -> object:
    marks = () if fault.name in QUICK else (pytest.mark.real,)
    return pytest.param(fault, marks=marks, id=fault.name)


@pytest.fixture(scope="module")
def grounds() -> Iterator[Grounds]:
    """One cluster for all scenarios that share it."""
    shared = Grounds()
    yield shared
    shared.close()


@pytest.mark.parametrize("fault", [_case(one) for one in FAULTS])
def test_after_a_fault_nothing_is_lost_doubled_wrong_or_run_again(
    fault: Fault, grounds: Grounds
) -> None:
    print(f"seed {SEED}; again: BITSWEEP_FAULT_SEED={SEED} or benchmarks/faults.py --seed {SEED}")
    try:
        result, _ = strike(fault, seed=SEED, grounds=grounds)
    except Unavailable as reason:
        missing(str(reason))

    assert result.verdict.is_clean, result
