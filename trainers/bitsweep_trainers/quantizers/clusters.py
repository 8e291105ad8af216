"""SplitQuant's clusters (arXiv 2501.12428): each value belongs to the lower, middle or upper one.

k-means in one dimension; where the parts go, and their grids, is no matter of this file.
"""

import torch
from torch import Tensor

NUM_CLUSTERS = 3
MOST_ROUNDS = 100


def cluster_bounds(rows: Tensor) -> Tensor:
    """Midpoints (R, 2) between the sorted centres of 3-means of each row of (R, M).

    Centres start at the least, the mean and the greatest value and move until none does, for
    `MOST_ROUNDS` at most; a cluster without values keeps its centre.

    >>> w = torch.tensor([[-1.0, -0.9, -0.1, 0.0, 0.1, 0.15, 0.8, 1.2]])
    >>> [round(one, 5) for one in cluster_bounds(w)[0].tolist()]
    [-0.45625, 0.51875]
    """
    centres = torch.stack([rows.amin(1), rows.mean(1), rows.amax(1)], 1)
    for _ in range(MOST_ROUNDS):
        members = _members(rows, _midpoints(centres))
        counts = torch.stack([one.sum(1) for one in members], 1)
        sums = torch.stack([(one * rows).sum(1) for one in members], 1)
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return _midpoints(centres)


def _midpoints(centres: Tensor) -> Tensor:
    return (centres[:, 1:] + centres[:, :-1]) / 2


def _members(rows: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Who belongs to which cluster; a value on a bound belongs to the one above it."""
    lower, upper = rows < bounds[:, :1], rows >= bounds[:, 1:]
    return lower, ~(lower | upper), upper


def split_by_value(weights: Tensor, *, is_per_channel: bool) -> tuple[Tensor, ...]:
    """Three tensors that add up to the weights: each its cluster's values and 0 elsewhere.

    Clusters are those of the whole tensor, or of each slice along the first dimension.

    >>> w = torch.tensor([-0.9, -0.3, 0.1, 0.6])
    >>> [one.tolist() for one in split_by_value(w.double(), is_per_channel=False)]
    [[-0.9, 0.0, 0.0, 0.0], [0.0, -0.3, 0.1, 0.0], [0.0, 0.0, 0.0, 0.6]]
    """
    rows = weights.flatten(1) if is_per_channel else weights.reshape(1, -1)
    parts = _members(rows, cluster_bounds(rows))
    return tuple(torch.where(one, rows, 0.0).view_as(weights) for one in parts)
