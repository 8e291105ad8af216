"""Which samples were answered rightly, as the bits that a measurement carries."""

import numpy as np
from torch import Tensor

from bitsweep.measurement import Split


def answers_of(hits: Tensor, split: Split) -> bytes | None:
    """Right answers (N,) on test, eight to a byte; None of validation, where nothing is claimed.

    >>> from torch import tensor
    >>> answers_of(tensor([True, False, True]), "test").hex()
    'a0'
    """
    return np.packbits(hits.cpu().numpy()).tobytes() if split == "test" else None
