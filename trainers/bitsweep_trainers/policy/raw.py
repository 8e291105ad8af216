"""A decision process on samples as the data hold them: what runs is normalised, batch by batch.

All of a split at once would take four bytes a value where the data have one.
"""

from collections.abc import Sequence

from torch import Tensor

from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.image_files import ImageFiles
from bitsweep_trainers.policy.environment import Choose, Environment, Rollout


def decoded(images: Tensor | ImageFiles) -> Tensor:
    """The samples in memory as they are; files are decoded by their centre, to uint8, once."""
    return images.centred() if isinstance(images, ImageFiles) else images


class RawSamples:
    """An environment whose `run` takes samples that are not normalised yet."""

    def __init__(
        self, environment: Environment, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.environment = environment
        self.widths = environment.widths
        self.costs = environment.costs
        self.channels = environment.channels
        self._mean, self._std = tuple(mean), tuple(std)

    def run(self, images: Tensor, choose: Choose) -> Rollout:
        """Samples of one batch (N, ...), uint8 or float as in the data."""
        return self.environment.run(normalise(images, self._mean, self._std), choose)
