"""Five steps of every method against recorded numbers: numbers that change need new `numerics`.

To record again: python -m tests.trainers_suite.test_golden_runs
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import BATCH_SIZE, few, training_of, trial_of

from bitsweep.trial import Trial
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import METHODS

GOLDEN = Path(__file__).with_name("golden_runs.json")
NUM_STEPS = 5
TOLERANCE = 1e-4


def golden_trial(method: str, backend: str = "eager") -> Trial:
    """The smallest trial of a method that uses all of its arithmetic."""
    declared = DECLARED[method]
    widths = (2, 3, 4) if declared.serves == "all" else (3,)
    start = "0" * 64 if declared.needs_start else None
    return trial_of(method, *widths, start=start, backend=backend)


def five_steps(method: str, backend: str = "eager") -> dict[str, Any]:
    """The losses of the first five batches and a checksum of the weights after them."""
    data = few(train=NUM_STEPS * BATCH_SIZE)
    made = training_of(golden_trial(method, backend), data)
    losses = []
    for indices in torch.arange(len(data.train_labels)).split(BATCH_SIZE):  # type: ignore[no-untyped-call]
        images = normalise(data.train_images[indices], data.mean, data.std)
        for optimizer in made.optimizers:
            optimizer.zero_grad()
        labels = data.train_labels[indices]
        loss = made.method.backward(made.network, made.trial, images, labels, made.noise)
        losses.append(round(float(loss), 6))
        for optimizer in made.optimizers:
            optimizer.step()
    checksum = sum(one.detach().double().abs().sum().item() for one in made.network.parameters())
    return {
        "numerics": dict(made.trial.numerics),
        "parameters": dict(made.trial.parameters),
        "losses": losses,
        "weights_checksum": round(checksum, 3),
    }


@pytest.mark.parametrize("method", sorted(METHODS))
def test_five_steps_give_the_recorded_numbers_of_these_numerics(method: str) -> None:
    recorded = json.loads(GOLDEN.read_text())
    assert method in recorded, "record it: python -m tests.trainers_suite.test_golden_runs"
    found, golden = five_steps(method), recorded[method]

    for name in ("numerics", "parameters"):
        assert found[name] == golden[name], f"{name} changed: record the run again"
    assert found["losses"] == pytest.approx(golden["losses"], abs=TOLERANCE), "raise numerics"
    assert found["weights_checksum"] == pytest.approx(golden["weights_checksum"], rel=TOLERANCE)


@pytest.mark.parametrize("method", ["lsq", "dorefa", "pact", "cpq_dropbits", "mbquant"])
def test_compiled_kernels_train_to_the_same_numbers(method: str) -> None:
    """One method for each set of kernels; sums are rounded differently, no more."""
    found, golden = five_steps(method, "compiled"), json.loads(GOLDEN.read_text())[method]

    assert found["losses"] == pytest.approx(golden["losses"], abs=10 * TOLERANCE)
    assert found["weights_checksum"] == pytest.approx(golden["weights_checksum"], rel=TOLERANCE)


def record() -> None:
    """Write the numbers of every method."""
    runs = {method: five_steps(method) for method in sorted(METHODS)}
    GOLDEN.write_text(json.dumps(runs, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    record()
