"""The store that benchmarks fill is one that the platform could have written."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tests.bitsweep_suite.toys import toy_sweep

from bitsweep.analysis.table import sweep_table
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer

ROOT = Path(__file__).parents[2]


def benchmark(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package and on no path."""
    spec = spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LARGE = benchmark("large_store")
SMALL = LARGE.Size(sweeps=2, searched_per_arm=3, confirmed_per_arm=2)


def test_a_million_measurements_stand_in_twenty_thousand_trials() -> None:
    size = LARGE.Size()

    assert (size.measurements, size.trials, size.trials_per_sweep) == (1_000_000, 20_000, 500)


def test_the_bulk_store_is_read_and_written_like_any_other(store: str) -> None:
    engine = open_to_write(store)
    LARGE.fill(engine, SMALL)
    Writer(engine).register_sweep(toy_sweep(), [])  # ids go on after the given ones
    reader = Reader(open_to_read(store))
    counted = reader.query("SELECT COUNT(*) FROM measurements")[1]
    table = sweep_table(reader, LARGE.sweep_name(1))
    trial_id = reader.trial_rows(reader.sweep(LARGE.sweep_name(0)).id)[0].trial_id
    found = reader.trial(trial_id)
    reader.close()
    engine.dispose()

    assert counted == [(SMALL.measurements,)]
    assert found.id == trial_id
    assert table.arms == LARGE.METHODS and {cell.n for cell in table.cells.values()} == {2}
