"""What the trainers declare without torch: what they learn, measure, and need to be compiled."""

import os
import shutil
from pathlib import Path

from bitsweep.declaration import DataDeclaration, TrainerDeclaration
from bitsweep.measurement import LOSS, TOP1, Metric

COSINE = Metric(
    name="cosine_similarity",
    goal="maximize",
    meaning="|<h, h'>| / (|h| |h'|), the mean over complex vectors",
)
NORMALISED_ERROR = Metric(
    name="normalised_error",
    goal="minimize",
    meaning="|h - h'|^2 / |h|^2, the mean over complex vectors",
)
_DECLARED = (
    TrainerDeclaration(
        name="image",
        title="classifies images",
        learning="classification",
        data_kinds=("images",),
        metrics=(TOP1, LOSS),
    ),
    TrainerDeclaration(
        name="series",
        title="classifies series",
        learning="classification",
        data_kinds=("series",),
        metrics=(TOP1, LOSS),
    ),
    TrainerDeclaration(
        name="vectors",
        title="compresses complex vectors and gives them back",
        learning="regression",
        data_kinds=("vectors",),
        metrics=(COSINE, NORMALISED_ERROR, LOSS),
    ),
)


def data_of_path(path: Path) -> DataDeclaration:
    """Declare what lies at a path; InputError when it is no data set. Loads numpy only then."""
    from bitsweep_trainers.data import paths

    return paths.data_of_path(path)


def check_weights(path: str, model: str, data: DataDeclaration) -> None:
    """InputError for a file of weights that the model cannot begin with. Loads torch.

    A model of another package is not looked into.
    """
    from bitsweep_trainers.models import build, pretrained

    if model in build.BUILDERS:
        pretrained.check_weights(Path(path), model=model, shape=data.shape, classes=data.classes)


def compiler_command() -> list[str]:
    """The C++ compiler where torch.compile looks for it: CXX, or g++ on the path."""
    return (os.environ.get("CXX") or "g++").split()


def missing_compiler() -> str | None:
    """Why the compiled kernels cannot be had on this machine; None if they can."""
    command = compiler_command()
    if shutil.which(command[0]):
        return None
    return f"compiled kernels need a C++ compiler, and there is no {command[0]!r}: install g++"


def num_gpus() -> int:
    """The GPUs that torch sees here; torch is loaded only then."""
    import torch

    return torch.cuda.device_count()


TRAINERS: dict[str, TrainerDeclaration] = {one.name: one for one in _DECLARED}
