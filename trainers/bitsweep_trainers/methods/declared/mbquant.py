"""MBQuant (arXiv 2305.08117): one network for all bit-widths, its body in 2-bit branches."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.space import Parameter, Parameters, Value
from bitsweep.trainer import MethodDeclaration
from bitsweep_trainers.methods.declared.branch_table import (
    BRANCH_BITS,
    POLICIES,
    BranchTable,
    branch_table,
    branches_for,
    is_odd,
    narrow_layers,
)
from bitsweep_trainers.methods.declared.common import CHOSEN, END_BITS, learning_rate

PAPER = "arXiv 2305.08117"
CODE = "the authors' code, zysxmu/MBQuant"
AUTO = "auto"
WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)
RANGE_ENDS = 2


def widths_of(bits: Sequence[Bits]) -> tuple[int, ...]:
    """The widths as whole numbers, ascending."""
    return tuple(sorted(one.weight for one in bits))


def num_branches(parameters: Parameters, bits: Sequence[Bits]) -> int:
    """K: as given, or half of the largest width, rounded up."""
    given = parameters["num_branches"]
    return branches_for(widths_of(bits)[-1]) if given == AUTO else int(given)


def table_of(parameters: Parameters, bits: Sequence[Bits]) -> BranchTable:
    """The branches of each width; ValueError if there are too few of them."""
    count = num_branches(parameters, bits)
    return branch_table(widths_of(bits), count, str(parameters["selection"]))


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """2 n(b) weight bits in the BitOps, n counting a narrow branch by its share of MACs.

    On disk: 2 bits a weight and branch; range ends of the K weight tensors and of the input of
    each branch at each width; a batch norm of C channels for each full branch of each width. The
    scale and shift of narrow branches' batch norms, of fewer channels, count among the scalars.
    """
    table = table_of(parameters, all_bits)
    count = num_branches(parameters, all_bits)
    rows = [use for uses in table.values() for use in uses]
    num_narrow = sum(use.is_narrow for use in rows)
    narrow = narrow_layers(tuple(layers)) if num_narrow else {}
    found = []
    for layer in layers:
        if layer.place != "body":
            found.append(LayerBits(weight=END_BITS, activation=END_BITS, scalars=2))
            continue
        branches = float(bits.weight // BRANCH_BITS)
        narrow_norms = 0
        if num_narrow:
            branches += narrow[layer.name].mac_ratio * is_odd(bits.weight)
            narrow_norms = 2 * num_narrow * narrow[layer.name].out_channels
        found.append(
            LayerBits(
                weight=BRANCH_BITS * branches,
                activation=bits.activation,
                stored=BRANCH_BITS * count,
                scalars=RANGE_ENDS * (count + len(rows)) + narrow_norms,
                norm_copies=len(rows) - num_narrow,
            )
        )
    return tuple(found)


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """Name K as a number, a table by the first policy that gives it; leave out inert parameters.

    One width has no teacher; a soft loss of weight 0 has no temperature.
    """
    canonical: dict[str, Value] = dict(parameters)
    canonical["num_branches"] = num_branches(parameters, all_bits)
    table = table_of(parameters, all_bits)
    canonical["selection"] = next(
        name for name in POLICIES if table_of(canonical | {"selection": name}, all_bits) == table
    )
    is_alone = len(all_bits) == 1
    if is_alone:
        canonical.pop("distillation_weight", None)
    if is_alone or canonical.get("distillation_weight") == 0:
        canonical.pop("distillation_temperature", None)
    return canonical


def _check(parameters: Parameters, all_bits: tuple[Bits, ...]) -> None:
    """Weights and activations have equal bits; the largest width needs its branches."""
    for bits in all_bits:
        if bits.weight != bits.activation or bits.weight not in WEIGHT_BITS:
            raise ValueError(
                f"mbquant runs at equal bits of weights and activations from 2 to 8, "
                f"got {bits.label}"
            )
    table_of(parameters, all_bits)


MBQUANT = MethodDeclaration(
    name="mbquant",
    title="MBQuant",
    source=PAPER,
    serves="all",
    weight_bits=WEIGHT_BITS,
    numerics=1,
    parameters=(
        learning_rate(0.1, source=CODE),
        Parameter(
            name="weight_decay",
            kind="float",
            low=0.0,
            high=1.0,
            default=1e-4,
            meaning="L2 decay of weights, batch norms and biases; none on quantizer parameters",
            source=CODE,
        ),
        Parameter(
            name="quantizer_learning_rate",
            kind="float",
            low=1e-6,
            high=0.1,
            default=1e-3,
            meaning="peak learning rate of the range ends (Adam)",
            source=f"1e-4 for 90 to 200 epochs: {CODE}; more for few epochs: {CHOSEN}",
        ),
        Parameter(
            name="step_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=0.1,
            meaning="learning rate of the 8-bit ends' step sizes over that of the weights",
            source=CHOSEN,
        ),
        Parameter(
            name="num_branches",
            kind="choice",
            choices=(AUTO, 1, 2, 3, 4, 5, 6, 7, 8),
            default=AUTO,
            meaning="branches K of the body, at least half the largest width; auto: just that",
            source=CODE,
        ),
        Parameter(
            name="selection",
            kind="choice",
            choices=POLICIES,
            default="paper_code",
            meaning="which branches serve which width: the authors' table, always the first ones, "
            "or the most even use without two branches alike",
            source=f"paper_code, nested: {CODE}; balanced: {CHOSEN}",
        ),
        Parameter(
            name="branch_noise",
            kind="float",
            low=0.0,
            high=1.0,
            default=0.05,
            meaning="noise on each branch's copy of the start weights, in their sd",
            source=CHOSEN,
        ),
        Parameter(
            name="weight_range",
            kind="float",
            low=1.0,
            high=4.0,
            default=3.0,
            meaning="where the weights' range begins: -/+ this many sd of a branch's tensor",
            source=CODE,
        ),
        Parameter(
            name="distillation_weight",
            kind="float",
            low=0.0,
            high=1.0,
            default=0.5,
            meaning="weight of the largest width's soft labels in the loss of the other widths",
            source=CODE,
        ),
        Parameter(
            name="distillation_temperature",
            kind="float",
            low=0.1,
            high=20.0,
            default=1.0,
            meaning="temperature of the soft labels; the soft loss is scaled by its square",
            source=CODE,
        ),
    ),
    layer_bits=_layer_bits,
    canonical=_canonical,
    check=_check,
    summary=(
        "Keeps K copies of the body, each with 2-bit weights; b bits run b/2 of them.",
        "An odd width runs one branch more, cut to about half its multiplications.",
        "Branch outputs are averaged before the classifier; batch norms belong to a width.",
        "In each step the largest width teaches the others.",
    ),
)
