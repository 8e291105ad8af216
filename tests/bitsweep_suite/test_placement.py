"""Whether a trial fits on nodes, as arithmetic."""

import pytest

from bitsweep.errors import InputError
from bitsweep.execution.placement import bundles_of, check_fits
from bitsweep.sweep import Resources

NODES = [{"CPU": 2.0, "GPU": 1.0, "memory": 8e9}, {"CPU": 4.0, "memory": 4e9, "big_disk": 1.0}]
ONE = {"CPU": 1.0}


@pytest.mark.parametrize(
    ("bundles", "strategy"),
    [
        ([ONE], ""),
        ([ONE] * 6, ""),
        ([{"CPU": 4.0, "big_disk": 1.0}], ""),
        ([{"CPU": 1.0, "GPU": 0.5}] * 2, ""),
        ([{"CPU": 2.0}] * 2, "STRICT_SPREAD"),
        ([{"CPU": 2.0}] * 2, "STRICT_PACK"),
    ],
)
def test_what_fits_passes(bundles: list[dict[str, float]], strategy: str) -> None:
    check_fits(bundles, NODES, strategy=strategy)


@pytest.mark.parametrize(
    ("bundles", "strategy", "says"),
    [
        ([{"CPU": 5.0}], "", "wants 5 CPU cores on one node: the largest node has 4 CPU cores"),
        ([{"CPU": 4.0, "GPU": 1.0}], "", "no single node has all of it"),
        ([{"CPU": 1.0, "tpu": 1.0}], "", "the largest node has 0 tpu"),
        ([ONE] * 7, "", "a trial wants 7 workers"),
        ([ONE] * 3, "STRICT_SPREAD", "each on a node of its own"),
        ([{"CPU": 2.0}] * 3, "STRICT_PACK", "a trial wants 6 CPU cores on one node"),
        ([{"CPU": 1.0, "memory": 9e9}], "", "9e+09 bytes of memory"),
    ],
)
def test_what_never_fits_is_said(
    bundles: list[dict[str, float]], strategy: str, says: str
) -> None:
    with pytest.raises(InputError, match=r"ask for less|fewer or smaller") as raised:
        check_fits(bundles, NODES, strategy=strategy)

    assert says in str(raised.value)


def test_a_bundle_says_what_a_worker_takes_in_the_names_of_ray() -> None:
    resources = Resources(
        cpus_per_worker=2,
        gpus_per_worker=0.5,
        memory_gib_per_worker=1.5,
        custom_per_worker={"big_disk": 1.0},
        workers_per_trial=2,
    )
    bundle = {"CPU": 2, "GPU": 0.5, "memory": 1_610_612_736, "big_disk": 1.0}

    assert bundles_of(resources) == [bundle, bundle]
    assert bundles_of(Resources()) == [{"CPU": 1}]
