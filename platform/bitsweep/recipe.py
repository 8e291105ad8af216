"""The training options that all methods share; plain values with their rules.

At its defaults a recipe leaves no trace in a trial's identity.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

MemoryFormat = Literal["channels_last", "contiguous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained, whatever the method.

    memory_format: the layout of images and kernels. micro_batch_size: images whose gradients are
    taken at once and added up (None: the whole batch). ema_decay: the measured weights are a
    moving average (None: the weights themselves). label_smoothing: share of a label spread over
    all classes. warmup_epochs: epochs in which the learning rates rise linearly, before their
    cosine. ValueError for what cannot be.
    """

    memory_format: MemoryFormat = "channels_last"
    micro_batch_size: int | None = None
    ema_decay: float | None = None
    label_smoothing: float = 0.0
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        if self.memory_format not in ("channels_last", "contiguous"):
            raise ValueError(
                f"memory_format must be channels_last or contiguous, got {self.memory_format!r}"
            )
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must be at least 0, got {self.warmup_epochs}")

    def micro_batches(self, batch_size: int) -> int:
        """In how many parts a batch is computed; ValueError if they would not be equal.

        >>> Recipe(micro_batch_size=32).micro_batches(128)
        4
        """
        if self.micro_batch_size is None:
            return 1
        if batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size must divide the batch of {batch_size}, "
                f"got {self.micro_batch_size}"
            )
        return batch_size // self.micro_batch_size


PLAIN = Recipe()


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """The options that differ from their defaults.

    >>> recipe_document(Recipe(ema_decay=0.99))
    {'ema_decay': 0.99}
    """
    plain = asdict(PLAIN)
    return {name: value for name, value in asdict(recipe).items() if value != plain[name]}


def canonical_recipe(recipe: Recipe, batch_size: int) -> Recipe:
    """One spelling for recipes that mean the same: a micro-batch of the whole batch is none."""
    if recipe.micro_batch_size != batch_size:
        return recipe
    return parse_recipe({**asdict(recipe), "micro_batch_size": None})


def parse_recipe(document: Mapping[str, Any]) -> Recipe:
    """The inverse of `recipe_document`."""
    return Recipe(**document)
