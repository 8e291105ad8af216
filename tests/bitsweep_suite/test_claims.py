"""When a driver takes a trial from another one: once that one gives no sign of life, whatever any
clock says."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import LAYERS, toy_sweep, toy_trial

from bitsweep.execution.recorder import Recorder
from bitsweep.store.database import open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import CLAIM_SECONDS, Writer
from bitsweep.sweep import Arm

TRIAL = toy_trial()


@dataclass
class Driver:
    """A recorder on a machine with a clock and a stopwatch of its own."""

    writer: Writer
    recorder: Recorder
    name: str
    clock: float = 1000.0
    stopwatch: float = 0.0

    def beats(self) -> None:
        """Its sign of life."""
        self.writer.heartbeat(self.name, at=self.clock)

    def claims(self) -> bool:
        """Whether it gets the trial."""
        return self.recorder.claim(TRIAL.id)


def driver(folder: Path, name: str) -> Driver:
    """A driver of the sweep."""
    engine = open_to_write(str(folder / "store.db"))
    writer = Writer(engine)
    arm = Arm(name="a", method="toy")
    sweep_id, arm_ids = writer.register_sweep(toy_sweep(arm), [(arm, "d")])
    writer.add_trial(TRIAL, layers=LAYERS, sweep_id=sweep_id, stage="search", arm_id=arm_ids[0])
    made: list[Driver] = []
    recorder = Recorder(
        writer,
        Reader(engine),
        sweep_id=sweep_id,
        arm_ids={"a": arm_ids[0]},
        owner=name,
        provenance={},
        clock=lambda: made[0].clock,
        stopwatch=lambda: made[0].stopwatch,
    )
    made.append(Driver(writer=writer, recorder=recorder, name=name))
    return made[0]


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
def test_a_driver_that_beats_keeps_its_trial_whatever_its_clock_says(
    jump: float, tmp_path: Path
) -> None:
    one, other = driver(tmp_path, "one"), driver(tmp_path, "other")
    assert one.claims()
    one.clock += jump
    taken = []
    for _ in range(20):
        one.clock += CLAIM_SECONDS / 4
        one.beats()
        other.stopwatch += CLAIM_SECONDS / 4
        taken.append(other.claims())

    assert not any(taken)


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_driver_that_is_silent_loses_its_trial_whatever_its_clock_said(
    ahead: float, tmp_path: Path
) -> None:
    one, other = driver(tmp_path, "one"), driver(tmp_path, "other")
    one.clock += ahead
    assert one.claims()
    first = other.claims()
    other.stopwatch += CLAIM_SECONDS - 1
    early = other.claims()
    other.stopwatch += 2

    assert (first, early, other.claims()) == (False, False, True)
