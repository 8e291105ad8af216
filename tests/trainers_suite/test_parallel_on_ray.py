"""Sweeps of trials over two workers through Ray and gloo: the store holds the curves of one."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bitsweep.bits import Bits
from bitsweep.plan import Plan
from bitsweep.run import RunOptions, run_sweep
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm, Objective, Resources, Search, Sweep, Task
from bitsweep.trainer import load_declarations

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
PLAIN = "tests.trainers_suite.plain:plain"
CURVE = """SELECT epoch, loss_sum / total FROM measurements
    JOIN memberships USING (trial_id) JOIN sweeps ON sweeps.id = sweep_id
    WHERE name = '{}' AND split = 'validation' ORDER BY epoch"""


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """One Ray of two CPUs for the module, in a folder of its own."""
    with TemporaryDirectory(prefix="bs-ray-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        from bitsweep.execution import ray_connection  # isort: skip  # sets what Ray reads once

        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray_connection.disconnect()


def curve(
    folder: Path,
    *,
    workers: int,
    batch_size: int,
    trainer: str = "image",
    is_synchronised: bool = False,
) -> list[float]:
    """Run a sweep of one trial; its validation losses in the store."""
    name = f"workers-{workers}"
    sweep = Sweep(
        name=name,
        question="?",
        reproduces="",
        expects="",
        cost="",
        task=Task(
            data="fashion-mnist-6k",
            model="lenet5",
            epochs=2,
            bits=(Bits(weight=32, activation=32),),
            batch_size=batch_size,
            trainer=trainer,
        ),
        arms=(Arm(name="fp32", method="fp32", parameters={"learning_rate": 0.01}),),
        objectives=(Objective(),),
        search=Search(seeds=(0,)),
        resources=Resources(workers_per_trial=workers, sync_batch_norm=is_synchronised),
    )
    store = str(folder / "store.db")
    report = run_sweep(
        Plan(sweep=sweep, declarations=load_declarations()),
        RunOptions(store=store, mlflow=None),
        observe=lambda progress: None,
    )
    assert (report.trials_run, report.trials_failed) == (1, 0), report.failures
    rows = Reader(open_to_read(store)).query(CURVE.format(name))[1]
    assert [epoch for epoch, _ in rows] == [1, 2]
    return [float(loss) for _, loss in rows]


def test_the_store_holds_the_same_curve_for_one_worker_and_for_two(tmp_path: Path) -> None:
    alone = curve(tmp_path, workers=1, batch_size=512, trainer=PLAIN)
    together = curve(tmp_path, workers=2, batch_size=512, trainer=PLAIN)

    assert together == pytest.approx(alone, abs=1e-4)
    assert abs(alone[0] - alone[1]) > 0.01


def test_with_synchronised_batch_norms_two_workers_give_the_curve_of_one(tmp_path: Path) -> None:
    # Few steps: batch norms spread the last bits of a float32 over the weights, 8e-4 after ten.
    alone = curve(tmp_path, workers=1, batch_size=2048)
    together = curve(tmp_path, workers=2, batch_size=2048, is_synchronised=True)

    assert together == pytest.approx(alone, abs=1e-4)
    assert abs(alone[0] - alone[1]) > 0.01
