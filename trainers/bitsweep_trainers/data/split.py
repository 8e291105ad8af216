"""Which training images validate: one rule for every data set, free of chance."""

import numpy as np
from numpy.typing import NDArray

from bitsweep_trainers.data.arrays import Labelled, Labels

SMALL_CLASS = 1000
SMALL_CLASS_VALIDATION = 100


def validation_mask(labels: Labels) -> NDArray[np.bool_]:
    """True where a training image validates; the rule is `declared.SPLIT_RULE`.

    >>> mask = validation_mask(np.repeat(np.arange(2), [600, 1050]))
    >>> [int(mask[:600].sum()), int(mask[600:].sum()), bool(mask[499]), bool(mask[500])]
    [100, 105, False, True]
    """
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        is_small = len(positions) < SMALL_CLASS
        count = SMALL_CLASS_VALIDATION if is_small else len(positions) // 10
        mask[positions[-count:]] = True
    return mask


def split_train(part: Labelled) -> tuple[Labelled, Labelled]:
    """(train, validation), each in the order of the file."""
    mask = validation_mask(part.labels)
    return (
        Labelled(images=part.images[~mask], labels=part.labels[~mask]),
        Labelled(images=part.images[mask], labels=part.labels[mask]),
    )
