"""A store by hand: an arm at two bit-widths and under rules that choose bits per sample."""

from dataclasses import replace
from pathlib import Path

from tests.bitsweep_suite.toys import (
    FIXED,
    LAYERS,
    evaluation,
    layer_bits,
    measurement,
    toy_sweep,
    toy_trial,
)

from bitsweep.bits import Allocation, Bits, Rule, parse_allocation, tied
from bitsweep.measurement import Allocator, Measurement, Split
from bitsweep.store.database import open_to_write
from bitsweep.store.writer import Writer
from bitsweep.sweep import Arm, Comparison, Confirm, Stage
from bitsweep.trial import Finished

LEARNED = Rule(allocator="learned", price=0.2)
SHUFFLED = Rule(allocator="shuffled", price=0.2)
OTHER = Arm(name="b", method="toy")
# Right answers of a thousand on test by seed: those of the learned policy, and of its shuffle.
RULED = ([740, 760, 750, 735, 765, 750], [720, 730, 725, 715, 735, 725])
COMPARED = (
    Comparison(arm="fixed", against="fixed", at=LEARNED, against_at=SHUFFLED),
    Comparison(arm="fixed", against="fixed", at=LEARNED, against_at=tied(2)),
    Comparison(arm="fixed", against="b", at=LEARNED, against_at=tied(2)),
)


def ruled(
    allocator: Allocator, correct: int, *, split: Split, bits: Bits, price: float = 0.2
) -> Measurement:
    """So many right of a thousand under a rule whose bits cost what these cost."""
    allocation = Allocation(layers=(), policy=f"{allocator}@{price:g}")
    plain = measurement(correct, split=split, bits=bits)
    return replace(plain, allocation=allocation, allocator=allocator, lambda_=price)


def given(allocator: Allocator, correct: int, *, split: Split) -> Measurement:
    """The same static allocation, as a rule found it."""
    allocation = parse_allocation("w=[2,3] a=[2,3]")
    plain = measurement(correct, split=split)
    return replace(
        plain, allocation=allocation, allocator=allocator, layer_bits=layer_bits(tied(3))
    )


def seed_measurements(seed: int) -> list[Measurement]:
    """Of one seed. The policy costs what 3 bits cost; the cascade is cheap and best on test."""
    learned, mixed = RULED[0][seed], RULED[1][seed]
    found = []
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        cheap = 900 if split == "test" else 720
        found += [
            measurement(700, split=split, bits=tied(2)),
            measurement(800 if split == "test" else 745, split=split, bits=tied(3)),
            measurement(790 if split == "test" else 780, split=split, bits=tied(4)),
            ruled("learned", learned, split=split, bits=tied(3)),
            ruled("shuffled", mixed, split=split, bits=tied(3)),
            ruled("cascade", cheap, split=split, bits=tied(2)),
            ruled("oracle", 990, split=split, bits=tied(2)),
            given("greedy", 710, split=split),
            given("shuffled", 710, split=split),
        ]
    return found


def rules_store(folder: Path, *, stage: Stage = "confirm") -> Path:
    """A finished sweep `toy` of the arms `fixed` and `b`, of which the latter measured nothing."""
    path = folder / "rules.db"
    sweep = toy_sweep(FIXED, OTHER, comparisons=COMPARED, confirm=Confirm(seeds=tuple(range(6))))
    writer = Writer(open_to_write(str(path)))
    sweep_id, arm_ids = writer.register_sweep(sweep, [(arm, arm.name) for arm in sweep.arms])
    configuration = writer.add_configuration(arm_ids[0], "fixed", {})
    for seed in range(6):
        trial = toy_trial(seed=seed)
        writer.add_trial(
            trial,
            layers=LAYERS,
            sweep_id=sweep_id,
            stage=stage,
            arm_id=arm_ids[0],
            configuration_id=configuration,
        )
        writer.record(trial.id, evaluation(1, measurement(600)))
        writer.record(trial.id, evaluation(2, *seed_measurements(seed)))
        writer.end(trial.id, Finished(epoch=2), sweep_id=sweep_id)
    writer.close()
    return path
