"""MBQuant (arXiv 2305.08117): one network for all bit-widths, its body in 2-bit branches."""

from collections.abc import Sequence

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters, Value
from bitsweep_trainers.methods.declared.branch_effects import (
    OWN,
    check_windows,
    first_filter,
    idle_switches,
)
from bitsweep_trainers.methods.declared.branch_switches import (
    CODE,
    canonical_switches,
    switch_parameters,
    switched,
    told,
)
from bitsweep_trainers.methods.declared.branch_table import (
    BRANCH_BITS,
    POLICIES,
    RANDOM,
    BranchTable,
    branch_table,
    branches_for,
    is_odd,
    is_window,
    narrow_layers,
    serving_table,
    stands_by_number,
    twins_at_work,
)
from bitsweep_trainers.methods.declared.common import CHOSEN, END_BITS, learning_rate

PAPER = "arXiv 2305.08117"
AUTO = "auto"
WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)
RANGE_ENDS = 2
ONE_PASS, PER_WIDTH = "one_pass", "per_width"
# One pass keeps the maps of all rows at once; beyond this a pass for each width is chosen.
ONE_PASS_BYTES = 4 * 2**30
KEPT_MAPS = 4  # of a layer's output: of the convolution, the norm, the activation and its codes


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


def serving_of(parameters: Parameters, bits: Sequence[Bits]) -> BranchTable:
    """The branches that a trained network runs at each width."""
    count = num_branches(parameters, bits)
    return serving_table(widths_of(bits), count, str(parameters["selection"]))


def end_bits(parameters: Parameters) -> int:
    """What the first and the last layer run at: 8 bits, or 32 for floating point."""
    return int(parameters.get("ends", END_BITS))


def one_pass_bytes(layers: Sequence[Layer], table: BranchTable, batch_size: int) -> float:
    """About what the maps of the rows that run take in fp32, forward and backward.

    As many rows a width as it has branches, however many a random table may draw from.
    """
    num_rows = sum(map(branches_for, table))
    maps = sum(
        layer.macs / layer.weights * layer.out_channels
        for layer in layers
        if layer.place == "body"
    )
    return 4.0 * KEPT_MAPS * num_rows * batch_size * maps


def _settle(
    parameters: Parameters, all_bits: tuple[Bits, ...], layers: Sequence[Layer], batch_size: int
) -> Parameters:
    """Leave out switches with nothing to act on in the model; decide on `execution = auto`.

    That is by the memory that the model's maps take at this batch.
    """
    parameters = {**parameters, **idle_switches(parameters, layers, widths_of(all_bits))}
    if parameters["execution"] != AUTO:
        return parameters
    needed = one_pass_bytes(layers, table_of(parameters, all_bits), batch_size)
    return {**parameters, "execution": ONE_PASS if needed <= ONE_PASS_BYTES else PER_WIDTH}


def num_tensors(layer: Layer, parameters: Parameters, all_bits: tuple[Bits, ...]) -> int:
    """How many 2-bit tensors a layer of the body has: K, or as many as its rows read.

    A tensor is a window of filters with a range. By position (D1) a branch has several ranges;
    windows moved by input channels (B1) hold filters of two branches wherever a layer's inputs
    and outputs differ in number, and a filter has other codes in another branch's range.
    """
    stands = switched(parameters)
    count = num_branches(parameters, all_bits)
    is_moved = stands["weight_offset"] not in OWN
    channels = layer.in_channels, layer.out_channels
    read = set()
    for uses in table_of(parameters, all_bits).values():
        for position, use in enumerate(uses):
            first = first_filter(use.branch, position, channels=channels, is_moved=is_moved)
            read.add((first, use.branch if stands["range_index"] in OWN else position))
    whole = {(branch * layer.out_channels, branch) for branch in range(count)}
    return count if read <= whole else len(read)


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """2 n(b) weight bits in the BitOps, n counting a narrow branch by its share of MACs.

    On disk: 2 bits a weight and tensor; range ends of the K weight tensors and of the input of
    each branch at each width; a batch norm of C channels for each full branch of each width. The
    scale and shift of narrow branches' batch norms, of fewer channels, count among the scalars.
    ValueError for a model in which a switch or an odd width cannot be.
    """
    table = table_of(parameters, all_bits)
    count = num_branches(parameters, all_bits)
    check_windows(parameters, layers, table, count)
    stands = switched(parameters)
    rows = [use for uses in table.values() for use in uses]
    num_narrow = sum(use.is_narrow for use in rows)
    narrow = narrow_layers(tuple(layers)) if num_narrow else {}
    num_stems = count if stands["stem"] == "wide" else 1
    ends = end_bits(parameters)
    found = []
    for layer in layers:
        if layer.place != "body":
            copies = num_stems if layer.place == "first" else 1
            scalars = 2 if ends == END_BITS else 0
            found.append(
                LayerBits(
                    weight=ends,
                    activation=ends,
                    scalars=scalars,
                    norm_copies=copies,
                    copies=copies,
                )
            )
            continue
        branches = float(bits.weight // BRANCH_BITS)
        narrow_norms = 0
        if num_narrow:
            branches += narrow[layer.name].mac_ratio * is_odd(bits.weight)
            narrow_norms = 2 * num_narrow * narrow[layer.name].out_channels
        is_wide = layer.kind == "depthwise" and stands["depthwise_bits"] == "width"
        stored = BRANCH_BITS * num_tensors(layer, parameters, all_bits)
        if is_wide:  # no tensor is shared by two widths
            stored = sum(b * len(uses) for b, uses in table.items())
        found.append(
            LayerBits(
                weight=(bits.weight if is_wide else BRANCH_BITS) * branches,
                activation=bits.activation,
                stored=stored,
                scalars=RANGE_ENDS * (count + len(rows)) + narrow_norms,
                norm_copies=len(rows) - num_narrow,
            )
        )
    return tuple(found)


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """Name K as a number, a table by the first policy that gives it; leave out inert parameters.

    One width has no teacher; a soft loss of weight 0 has no temperature. What is at its clean or
    usual value leaves no trace: switches, 8-bit ends, copied branches, one pass.
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
    canonical_switches(canonical, is_by_position_alike=stands_by_number(table))
    usual: dict[str, tuple[Value, ...]] = {
        "ends": (END_BITS,),
        "branch_start": ("copies",),
        "execution": (AUTO, ONE_PASS, PER_WIDTH) if is_alone else (AUTO, ONE_PASS),
    }
    for name, values in usual.items():
        if canonical.get(name) in values:
            del canonical[name]
    if "branch_start" in canonical:
        canonical.pop("branch_noise", None)
    return canonical


def _check(parameters: Parameters, all_bits: tuple[Bits, ...]) -> None:
    """Weights and activations have equal bits; the largest width needs its branches."""
    for bits in all_bits:
        if bits.weight != bits.activation or bits.weight not in WEIGHT_BITS:
            raise ValueError(
                f"mbquant runs at equal bits of weights and activations from 2 to 8, "
                f"got {bits.label}"
            )
    table = table_of(parameters, all_bits)
    stands = switched(parameters)
    moved = [name for name in ("range_index", "weight_offset") if stands[name] not in OWN]
    if moved and parameters["selection"] == RANDOM:
        raise ValueError(
            f"{told(parameters, moved[0])} needs branches that stay at their positions: "
            f"choose another selection than {RANDOM}"
        )
    is_cut = stands["weight_offset"] not in OWN
    if is_cut and not all(is_window(uses) for uses in table.values()):
        raise ValueError(
            f"{told(parameters, 'weight_offset')} needs neighbouring branches at every width, "
            f"which selection = {parameters['selection']} does not give here"
        )
    _check_noise(parameters, table, num_branches(parameters, all_bits))


PARTING = ("range_index", "shuffle", "weight_offset", "range_std")  # these tell twins apart


def _check_noise(parameters: Parameters, table: BranchTable, count: int) -> None:
    """Copies without noise that serve the same widths have equal gradients for ever (spec, S1)."""
    stands = switched(parameters)
    is_alike = parameters["branch_start"] == "copies" and parameters["branch_noise"] == 0
    is_parted = any(stands[name] not in ("branch", "own", "off") for name in PARTING)
    twins = twins_at_work(table, count)
    if is_alike and twins and not is_parted and parameters["selection"] != RANDOM:
        raise ValueError(
            f"branch_noise = 0 keeps branches {' and '.join(map(str, twins))} alike for ever, as "
            "they serve the same widths: give it a value above 0, or selection = balanced"
        )


MBQUANT = MethodDeclaration(
    name="mbquant",
    title="MBQuant",
    source=PAPER,
    serves="all",
    keeps_plain=lambda given, bits: False,
    weight_bits=WEIGHT_BITS,
    numerics=4,
    has_kernels=True,
    layer_kinds=("conv", "depthwise", "linear"),
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
            meaning="which branches serve which width: the authors' table (in their {2, 3, 4} "
            "files nested, D5), always the first ones, the most even use without two branches "
            "alike, the authors' table also up to 4 bits, or a new draw in every step",
            source=f"paper_code, nested: {CODE}; balanced, amortized, random: {CHOSEN}",
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
        Parameter(
            name="branch_start",
            kind="choice",
            choices=("copies", "drawn", "drawn_grouped"),
            default="copies",
            meaning="branches begin as noisy copies of the start's weights, each drawn anew, or "
            "drawn with the sd of one grouped convolution, sqrt(K) times smaller",
            source=f"drawn_grouped: {CODE}; the others: {CHOSEN}",
        ),
        Parameter(
            name="ends",
            kind="choice",
            choices=(END_BITS, FULL_PRECISION_BITS),
            default=END_BITS,
            meaning="bits of the first and the last layer",
            source=f"32: {CODE}; 8: {CHOSEN}",
        ),
        Parameter(
            name="execution",
            kind="choice",
            choices=(AUTO, ONE_PASS, PER_WIDTH),
            default=AUTO,
            meaning="all widths of a step in one pass, or one after the other, with the maps of "
            "one width in memory; auto: one pass if its maps take 4 GiB at most",
            source=CHOSEN,
        ),
        *switch_parameters(),
    ),
    settle=_settle,
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
