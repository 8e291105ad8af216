"""The real trainer on networks without batch norms: no sample depends on another one."""

from collections.abc import Callable, Iterator

import pytest
from torch import nn

from bitsweep.measurement import Evaluation
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial
from bitsweep_trainers import image


def plain(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """Train as `image.train` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "start_network", _without_norms(image.start_network))
        yield from image.train(trial, workspace)


def _without_norms(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def start(trial: Trial, workspace: Workspace) -> nn.Module:
        network = make(trial, workspace)
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    setattr(module, name, nn.Identity())
        return network

    return start
