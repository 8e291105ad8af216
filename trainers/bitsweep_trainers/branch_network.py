"""A network whose body becomes branches, and what is asked of it as a whole.

The modules it is made of are in `branches`.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bitsweep.cost import Layer
from bitsweep_trainers.branch_norm import BranchNorm, BranchShortcut, Norm
from bitsweep_trainers.branch_rows import (
    ActiveRows,
    BranchMean,
    BranchShuffle,
    FanOut,
    FrontIdentity,
)
from bitsweep_trainers.branches import (
    BranchLayer,
    BranchPlan,
    first_branches,
)
from bitsweep_trainers.methods.declared.branch_table import NarrowLayer, is_odd, narrow_layers
from bitsweep_trainers.models.residual import Residual, residual_of, residuals_of
from bitsweep_trainers.models.resnet import PadShortcut


def branch_network(
    network: nn.Module, layers: Sequence[Layer], plan: BranchPlan, generator: torch.Generator
) -> nn.Module:
    """Turn the body of a network into branches, in place; stem and head stay as they are.

    The stem runs once for all widths; the momentum of its batch norms makes one update on a batch
    equal to one a width. ValueError for a body that cannot be cut into branches.
    """
    stem, body = network.get_submodule("stem"), network.get_submodule("body")
    rows = ActiveRows(plan.table, plan.serving)
    is_wide = plan.switches["stem"] == "wide"
    narrow = narrow_layers(tuple(layers)) if any(map(is_odd, plan.table)) else {}
    _fit_shortcuts(body, narrow, rows)
    _replace_computing(body, narrow, rows, plan=plan, generator=generator)
    _add_shuffles(body, narrow, rows, where=plan.switches["shuffle"])
    fan_out = FanOut(
        rows,
        num_stems=plan.num_branches if is_wide else 1,
        is_front=plan.switches["stem_channels"] == "front",
    )
    if fan_out.is_front:
        _read_from_the_front(body, fan_out)
    parts = OrderedDict([("fan_out", fan_out), *body.named_children()])
    network.body = nn.Sequential(parts | OrderedDict(average=BranchMean(rows)))
    for module in stem.modules():
        if isinstance(module, Norm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** len(rows.all_widths)
    return network


def widen_stem(network: nn.Module, plan: BranchPlan, generator: torch.Generator) -> None:
    """Give a stem of one convolution K times its channels, in place: copies with noise, or drawn.

    ValueError for a stem of another make.
    """
    stem = network.get_submodule("stem")
    for path, module in list(stem.named_modules()):
        if isinstance(module, Norm):
            wide: nn.Module = _wide_norm(module, plan.num_branches)
        elif isinstance(module, nn.Conv2d):
            if module.in_channels > module.out_channels or module.bias is not None:
                raise ValueError("stem = wide needs a stem of one convolution without bias")
            wide = _wide_convolution(module, plan, generator)
        else:
            continue
        stem.set_submodule(path, wide)


def _wide_convolution(
    source: nn.Conv2d, plan: BranchPlan, generator: torch.Generator
) -> nn.Conv2d:
    wide = nn.Conv2d(
        source.in_channels,
        source.out_channels * plan.num_branches,
        source.kernel_size,  # type: ignore[arg-type]  # typed as tuples of any length
        stride=source.stride,  # type: ignore[arg-type]
        padding=source.padding,  # type: ignore[arg-type]
        bias=False,
        device="meta",  # draws nothing
    )
    wide.weight = nn.Parameter(first_branches(source, plan, generator).flatten(0, 1))
    return wide


def _wide_norm(source: Norm, num_branches: int) -> Norm:
    wide = type(source)(source.num_features * num_branches, eps=source.eps)
    wide.momentum = source.momentum
    own = source.state_dict()
    wide.load_state_dict({n: v.repeat(num_branches) if v.ndim else v for n, v in own.items()})
    return wide.to(source.weight)


def _read_from_the_front(body: nn.Module, fan_out: FanOut) -> None:
    """B3: in a network that begins with a block, if that passes its input on unchanged."""
    first = next(iter(body.modules()))
    while residual_of(first) is None and list(first.children()):
        first = next(first.children())
    block = residual_of(first)
    if block is not None and isinstance(block.shortcut, nn.Identity | BranchShortcut):
        block.set_shortcut(FrontIdentity(fan_out, block.shortcut))
    else:
        fan_out.is_front = False


def _add_shuffles(
    body: nn.Module, narrow: Mapping[str, NarrowLayer], rows: ActiveRows, *, where: str
) -> None:
    """A shuffle behind the last batch norm of the blocks that are asked for (section 2.6)."""
    if where == "off":
        return
    for path, block in residuals_of(body):
        norm, layer = block.module.get_submodule(block.last_norm), block.first
        assert isinstance(norm, BranchNorm) and isinstance(layer, BranchLayer)
        if where == "every_block" or layer.in_channels != norm.channels:
            shuffle = BranchShuffle(
                rows, channels=norm.channels, narrow_channels=norm.narrow_channels
            )
            body.set_submodule(f"{path}.{block.last_norm}", nn.Sequential(norm, shuffle))


def _fit_shortcuts(body: nn.Module, narrow: Mapping[str, NarrowLayer], rows: ActiveRows) -> None:
    """Shortcuts without weights learn the channels of their rows."""
    for path, block in residuals_of(body):
        shortcut, (full, ends) = block.shortcut, _block_channels(f"body.{path}", block, narrow)
        is_changing = isinstance(shortcut, nn.Identity) and ends[0] != ends[1]
        if isinstance(shortcut, PadShortcut) or is_changing:
            stride = shortcut.stride if isinstance(shortcut, PadShortcut) else 1
            block.set_shortcut(
                BranchShortcut(rows=rows, channels=full, narrow_channels=ends, stride=stride)
            )


def _block_channels(
    path: str, block: Residual, narrow: Mapping[str, NarrowLayer]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(channels in, out) of a block, of a full branch and of a narrow one."""
    first, last = block.first, block.last
    assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
    full = first.in_channels, last.out_channels
    if not narrow:
        return full, full
    ends = narrow[f"{path}.{block.layers[0]}"], narrow[f"{path}.{block.layers[-1]}"]
    return full, (ends[0].in_channels, ends[1].out_channels)


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


def are_rows_apart(network: nn.Module) -> bool:
    """Whether no row reads another one's features within the body."""
    return not any(isinstance(one, BranchShuffle) for one in network.modules())


def logits_row_by_row(network: nn.Module, images: Tensor) -> Tensor:
    """What one pass of the active rows gives, (W N, classes), with the rows one after the other.

    On a CPU it pays where maps are large: those of one row stay in its caches and in memory that
    is used again, and a convolution of one group is quicker than each of many. ResNet-20 at batch
    128 takes 0.6 to 0.7 of the processor time, small networks as much as before. Weights are
    quantized once. Rows must be apart.
    """
    rows = active_rows(network)
    uses = dict(rows.running)
    body, features = network.get_submodule("body"), network.get_submodule("stem")(images)
    means = []
    with weights_held(network):
        for bits, of_width in uses.items():
            outputs = []
            for use in of_width:
                rows.activate_row(bits, use)
                outputs.append(body(features))
            means.append(torch.stack(outputs).mean(0))
    rows.activate(tuple(uses), uses)
    logits: Tensor = network.get_submodule("head")(torch.cat(means))
    return logits


@contextmanager
def weights_held(network: nn.Module) -> Iterator[None]:
    """Within the block every layer of branches uses the weights as they are quantized now."""
    layers = branch_layers(network)
    for layer in layers:
        layer.held = layer.weight_values()
    try:
        yield
    finally:
        for layer in layers:
            layer.held = None


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Replace the branches' batch-norm statistics by their means over batches of images.

    The network is in training mode; all widths run.
    """
    norms = branch_norms(network)
    momenta = [norm.momentum for norm in norms]
    active_rows(network).activate_all()
    for index, images in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (index + 1)
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
