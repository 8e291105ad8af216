"""Networks of every method, a few steps old, packed into files; shared by the tests of export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor

from bitsweep.bits import Bits
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.packed import container
from bitsweep_trainers.packed.file import save

STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A network in training, its file and what was written."""

    made: loop.Training
    path: Path
    written: container.Written

    @property
    def images(self) -> Tensor:
        """Normalised images of the validation split."""
        data = self.made.data
        return normalise(data.validation_images, data.mean, data.std)

    def logits(self, bits: Bits) -> Tensor:
        """What the trained network says at these bits."""
        self.made.method.select(self.made.network, bits)
        self.made.network.eval()
        with torch.no_grad():
            logits: Tensor = self.made.network(self.images)
        return logits


def trained(method: str, *widths: int, model: str = "small-cnn", **parameters: Any) -> Any:
    """A network after a few steps, in the memory format of the image trainer."""
    declared = DECLARED[method]
    chosen = widths or ((2, 4) if declared.serves == "all" else (4,))
    start = "0" * 64 if declared.needs_start else None
    trial = trial_of(method, *chosen, model=model, start=start, parameters=parameters)
    made = training_of(trial, few(train=64, evaluated=40))
    made.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = normalise(made.data.train_images, made.data.mean, made.data.std)
    for _ in range(STEPS if declared.trains else 0):
        for optimizer in made.optimizers:
            optimizer.zero_grad()
        made.method.backward(made.network, trial, images, made.data.train_labels, made.noise)
        for optimizer in made.optimizers:
            optimizer.step()
    return made


def packed(
    folder: Path, method: str, *widths: int, model: str = "small-cnn", **given: Any
) -> Packed:
    """The same with its file in the folder."""
    made = trained(method, *widths, model=model, **given)
    path = folder / f"{method}.bits"
    data = made.data
    written = save(made.network, made.trial, path, mean=data.mean, std=data.std)
    return Packed(made=made, path=path, written=written)
