"""The part of the training images that the super-network never fits: the policy learns on it."""

from dataclasses import replace

import torch

from bitsweep_trainers.data.load import Arrays


def hold_out(data: Arrays, share: float, generator: torch.Generator) -> Arrays:
    """The data with a share of the training images held out, the same of each class.

    Those held out come in random order. Mean and sd stay those of all training images.
    """
    labels = data.train_labels.cpu()
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        rows = torch.nonzero(labels == label)[:, 0]
        chosen = torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]
        is_held[rows[chosen]] = True
    held = torch.nonzero(is_held)[:, 0]
    held = held[torch.randperm(len(held), generator=generator)].to(data.train_labels.device)
    kept = torch.nonzero(~is_held)[:, 0].to(data.train_labels.device)
    return replace(
        data,
        train_images=data.train_images[kept],
        train_labels=data.train_labels[kept],
        held_images=data.train_images[held],
        held_labels=data.train_labels[held],
    )
