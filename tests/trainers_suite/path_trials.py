"""Data sets on disk made for tests, and trials on them: series in a CSV, vectors in an npz."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.trainers_suite.trials import trial_of, workspace_in

from bitsweep.space import Value
from bitsweep.trial import Trial
from bitsweep_trainers.data.paths import data_of_path
from bitsweep_trainers.image import train
from bitsweep_trainers.methods.declared import METHODS as DECLARED

LENGTH, ROWS, CLASSES = 64, 60, 3
NUMBERS = 16
MODELS_OF = {"series": "signal-cnn", "vectors": "channel-autoencoder"}


def write_series(folder: Path) -> Path:
    """A CSV of a few random series."""
    path = folder / "series.csv"
    values = torch.randn(ROWS, LENGTH, generator=torch.Generator().manual_seed(0)).tolist()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *(f"t{index}" for index in range(LENGTH))])
        writer.writerows([index % CLASSES, *row] for index, row in enumerate(values))
    return path


def write_vectors(folder: Path) -> Path:
    """An npz of a few random complex vectors."""
    path = folder / "vectors.npz"
    drawn = np.random.default_rng(0).standard_normal((2, ROWS, NUMBERS))
    np.savez(path, vectors=drawn[0] + 1j * drawn[1])
    return path


def trial_on(path: Path, method: str, given: dict[str, Value], **changes: Any) -> Trial:
    """A trial of one epoch on what lies at a path."""
    data, declared = data_of_path(path), DECLARED[method]
    fields: dict[str, Any] = {
        "model": MODELS_OF[data.kind],
        "trainer": data.kind,
        "data": data.name,
        "data_path": data.path,
        "data_sha256": data.sha256,
        "split_rule": data.split_rule,
        "parameters": given,
        "epochs": 1 if declared.trains else 0,
        "batch_size": 16,
    }
    widths = (2, 4) if declared.serves == "all" else (4,)
    return trial_of(method, *widths, **(fields | changes))


def trained_on(
    path: Path, folder: Path, method: str, given: dict[str, Value], **changes: Any
) -> tuple[Trial, Path]:
    """A finished trial, after the start that it may need, and its checkpoint."""
    start, checkpoint = None, None
    if DECLARED[method].needs_start:
        first = trial_on(path, "fp32", {})
        workspace = workspace_in(folder / "start")
        list(train(first, workspace))
        start, checkpoint = first.id, workspace.final_checkpoint
    learns = DECLARED[method].learns_bits(given)
    trial = trial_on(path, method, given, start=start, learns_bits=learns, **changes)
    workspace = workspace_in(folder / "own", checkpoint)
    evaluations = list(train(trial, workspace))
    assert evaluations[-1].measurements
    return trial, workspace.final_checkpoint
