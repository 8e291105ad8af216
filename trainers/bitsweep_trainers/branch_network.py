"""A network whose body becomes branches, and what is asked of it as a whole.

The modules it is made of are in `branches`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bitsweep.cost import Layer
from bitsweep_trainers.branches import (
    ActiveRows,
    BranchLayer,
    BranchMean,
    BranchNorm,
    BranchPlan,
    BranchShortcut,
    FanOut,
    Norm,
)
from bitsweep_trainers.methods.declared.branch_table import NarrowLayer, is_odd, narrow_layers
from bitsweep_trainers.models.resnet import BasicBlock, PadShortcut


def branch_network(
    network: nn.Module, layers: Sequence[Layer], plan: BranchPlan, generator: torch.Generator
) -> nn.Module:
    """Turn the body of a network into branches, in place; stem and head stay as they are.

    The stem runs once for all widths; the momentum of its batch norms makes one update on a batch
    equal to one a width. ValueError for a body that cannot be cut into branches.
    """
    stem, body = network.get_submodule("stem"), network.get_submodule("body")
    rows = ActiveRows(plan.table)
    narrow = narrow_layers(tuple(layers)) if any(map(is_odd, plan.table)) else {}
    _fit_shortcuts(body, narrow, rows)
    _replace_computing(body, narrow, rows, plan=plan, generator=generator)
    parts = OrderedDict([("fan_out", FanOut(rows)), *body.named_children()])
    network.body = nn.Sequential(parts | OrderedDict(average=BranchMean(rows)))
    for module in stem.modules():
        if isinstance(module, Norm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** len(rows.all_widths)
    return network


def _fit_shortcuts(body: nn.Module, narrow: Mapping[str, NarrowLayer], rows: ActiveRows) -> None:
    """Shortcuts without weights learn the channels of their rows."""
    blocks = [(p, one) for p, one in body.named_modules() if isinstance(one, BasicBlock)]
    for path, block in blocks:
        shortcut = block.shortcut
        full = block.conv1.in_channels, block.conv2.out_channels
        ends = full
        if narrow:
            first, last = narrow[f"body.{path}.conv1"], narrow[f"body.{path}.conv2"]
            ends = first.in_channels, last.out_channels
        is_changing = isinstance(shortcut, nn.Identity) and ends[0] != ends[1]
        if isinstance(shortcut, PadShortcut) or is_changing:
            stride = shortcut.stride if isinstance(shortcut, PadShortcut) else 1
            block.shortcut = BranchShortcut(
                rows=rows, channels=full, narrow_channels=ends, stride=stride
            )


def _replace_computing(
    body: nn.Module,
    narrow: Mapping[str, NarrowLayer],
    rows: ActiveRows,
    *,
    plan: BranchPlan,
    generator: torch.Generator,
) -> None:
    """Layers become branches; a batch norm belongs to the layer before it in `modules()` order."""
    narrow_channels = 0
    for path, module in list(body.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            one = narrow.get(f"body.{path}")
            narrow_channels = one.out_channels if one is not None else 0
            layer = BranchLayer(module, plan=plan, rows=rows, narrow=one, generator=generator)
            body.set_submodule(path, layer)
        elif isinstance(module, Norm):
            norm = BranchNorm(module, rows=rows, narrow_channels=narrow_channels)
            body.set_submodule(path, norm)


def active_rows(network: nn.Module) -> ActiveRows:
    """What selects the widths of a network of branches."""
    return next(one for one in network.modules() if isinstance(one, ActiveRows))


def branch_layers(network: nn.Module) -> list[BranchLayer]:
    """The layers of a network that are kept in branches, in `modules()` order."""
    return [one for one in network.modules() if isinstance(one, BranchLayer)]


def branch_norms(network: nn.Module) -> list[BranchNorm]:
    """The batch norms of the branches, in `modules()` order."""
    return [one for one in network.modules() if isinstance(one, BranchNorm)]


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Replace the branches' batch-norm statistics by their means over batches of images.

    The network is in training mode; all widths run.
    """
    norms = branch_norms(network)
    momenta = [norm.momentum for norm in norms]
    active_rows(network).activate(active_rows(network).all_widths)
    for index, images in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (index + 1)
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
