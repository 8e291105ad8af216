"""What the trainers declare without torch: what they learn, and what they measure."""

from bitsweep.measurement import LOSS, TOP1, Metric
from bitsweep.trainer import TrainerDeclaration
from bitsweep_trainers.data.paths import data_of_path

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
TRAINERS: dict[str, TrainerDeclaration] = {one.name: one for one in _DECLARED}

__all__ = ["TRAINERS", "data_of_path"]
