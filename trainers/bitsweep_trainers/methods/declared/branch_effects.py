"""What MBQuant's switches have to act on in a model, by its declared layers alone."""

import re
from collections.abc import Mapping, Sequence

from bitsweep.cost import Layer
from bitsweep.space import Parameters
from bitsweep_trainers.methods.declared.branch_switches import SWITCHES, switched, told
from bitsweep_trainers.methods.declared.branch_table import BRANCH_BITS, BranchTable
from bitsweep_trainers.models.projections import projected_block

_BLOCK = re.compile(r"(body\.stage\d+\.\d+)\.conv\d+")  # of our ResNets and of torchvision's
OWN = ("branch", "own")


def blocks_of(layers: Sequence[Layer]) -> Mapping[str, tuple[Layer, ...]]:
    """The convolutions of each residual block, in order, by the block's path."""
    blocks: dict[str, tuple[Layer, ...]] = {}
    for layer in layers:
        found = _BLOCK.fullmatch(layer.name)
        if found is not None:
            blocks[found[1]] = (*blocks.get(found[1], ()), layer)
    return blocks


def idle_switches(
    parameters: Parameters, layers: Sequence[Layer], widths: Sequence[int]
) -> Mapping[str, str]:
    """Switches that are not clean and change nothing in this model, by name, with the clean value.

    Shuffles need residual blocks and, as they mix b // 2 groups, a width of 4 bits; 2-bit weights
    are those of the width where that is 2.
    """
    stands, body = switched(parameters), [one for one in layers if one.place == "body"]
    blocks = blocks_of(layers)
    shuffled = [
        path
        for path, convolutions in blocks.items()
        if stands["shuffle"] == "every_block"
        or convolutions[0].in_channels != convolutions[-1].out_channels
    ]
    is_deep = any(one.kind == "depthwise" for one in body)
    acting = {
        "shuffle": bool(shuffled) and max(widths) // BRANCH_BITS > 1,
        "depthwise_bits": is_deep and max(widths) > BRANCH_BITS,
        "weight_offset": any(one.in_channels != one.out_channels for one in body),
        "stem_channels": _begins_with_identity(body, blocks),
    }
    return {
        one.name: one.clean
        for one in SWITCHES
        if stands[one.name] != one.clean and not acting.get(one.name, True)
    }


def _begins_with_identity(body: Sequence[Layer], blocks: Mapping[str, tuple[Layer, ...]]) -> bool:
    """Whether the body's first layer is within a block whose shortcut has no weights."""
    projected = {projected_block(one.name) for one in body}
    first = [path for path, convolutions in blocks.items() if body[0] in convolutions]
    return bool(first) and first[0] not in projected


def first_filter(branch: int, position: int, *, channels: tuple[int, int], is_moved: bool) -> int:
    """Where the window of a branch begins, of a layer with these channels in and out.

    At its own weights, or (slip B1) at (first branch) x (input channels); first branch: that of
    the width's first position.

    >>> [first_filter(k, k - 1, channels=(16, 32), is_moved=True) for k in (1, 2)]
    [16, 48]
    """
    given, made = channels
    return (branch - position) * given + position * made if is_moved else branch * made


def check_windows(
    parameters: Parameters, layers: Sequence[Layer], table: BranchTable, num_branches: int
) -> None:
    """ValueError where a window of B1 would reach beyond the weights of a layer."""
    if switched(parameters)["weight_offset"] in OWN:
        return
    places = {(use.branch, at) for uses in table.values() for at, use in enumerate(uses)}
    for layer in layers:
        channels = layer.in_channels, layer.out_channels
        if layer.place != "body":
            continue
        begins = [first_filter(*one, channels=channels, is_moved=True) for one in places]
        if max(begins) > (num_branches - 1) * layer.out_channels:
            raise ValueError(
                f"{told(parameters, 'weight_offset')} reads beyond the weights of {layer.name}, "
                f"which has {layer.in_channels} inputs and {layer.out_channels} outputs; "
                "set weight_offset = own"
            )
