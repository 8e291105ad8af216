"""Where the authors' code departs from a clean MBQuant: one switch each, all off by default.

D1 to D4 differ from the paper's description, B1 to B3 are slips of the code (the fifth difference,
D5, is a selection policy: `paper_code` against `amortized`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bitsweep.space import Parameter, Parameters, Value

MODE = "mode"
CLEAN, REFERENCE = "clean", "reference"
CODE = "the authors' code, zysxmu/MBQuant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One choice between what we do and what the authors' code does."""

    name: str
    clean: str
    reference: str
    meaning: str
    label: str
    others: tuple[str, ...] = ()


SWITCHES = (
    Switch(
        name="range_index",
        clean="branch",
        reference="position",
        meaning="a weight range belongs to a branch, or to a position among the branches that a "
        "width selects, so that a branch's 2-bit weights change with the width",
        label="D1",
    ),
    Switch(
        name="shuffle",
        clean="off",
        reference="downsample",
        others=("every_block",),
        meaning="channels are shuffled among branches on the residual path of blocks: of none, of "
        "those that change the shape, or of all; nothing to do in a network without blocks",
        label="D2",
    ),
    Switch(
        name="stem",
        clean="shared",
        reference="wide",
        meaning="one stem for all branches, or K times its channels, each branch reading its own",
        label="D3",
    ),
    Switch(
        name="depthwise_bits",
        clean="two",
        reference="width",
        meaning="depthwise weights have 2 bits, or as many as the activations; nothing to do in a "
        "network without depthwise layers",
        label="D4",
    ),
    Switch(
        name="weight_offset",
        clean="own",
        reference="input_channels",
        meaning="a branch runs its own weights, or a window that begins at (first branch) x (its "
        "input channels), across the borders of branches where input and output channels differ",
        label="B1",
    ),
    Switch(
        name="range_std",
        clean="branch",
        reference="filter",
        meaning="the weights' range i begins from the std of branch i, or from that of filter i",
        label="B2",
    ),
    Switch(
        name="stem_channels",
        clean="own",
        reference="front",
        meaning="with a wide stem, a first block's identity path (and at odd widths its "
        "convolution) reads its branch's channels, or the first ones",
        label="B3",
    ),
)


def switch_parameters() -> tuple[Parameter, ...]:
    """The mode and its switches; "mode" leaves a switch to the mode."""
    mode = Parameter(
        name=MODE,
        kind="choice",
        choices=(CLEAN, REFERENCE),
        default=CLEAN,
        meaning="where the switches below stand unless they are given: as we do it, or as in the "
        "authors' code (D1 to D4, B1 to B3)",
        source=CODE,
    )
    return (
        mode,
        *(
            Parameter(
                name=one.name,
                kind="choice",
                choices=(MODE, one.clean, one.reference, *one.others),
                default=MODE,
                meaning=f"{one.label}: {one.meaning}",
                source=f"{one.reference}: {CODE}",
            )
            for one in SWITCHES
        ),
    )


def switched(parameters: Parameters) -> Mapping[str, str]:
    """Where every switch stands, by name; a parameter that is missing is clean."""
    is_reference = parameters.get(MODE, CLEAN) == REFERENCE
    found = {}
    for one in SWITCHES:
        given = str(parameters.get(one.name, MODE))
        by_mode = one.reference if is_reference else one.clean
        found[one.name] = by_mode if given == MODE else given
    return found


def told(parameters: Parameters, name: str) -> str:
    """A switch that is not clean, as the user set it: by itself, or by the mode.

    >>> told({"mode": "reference"}, "shuffle"), told({"shuffle": "every_block"}, "shuffle")
    ('mode = reference (shuffle = downsample)', 'shuffle = every_block')
    """
    setting = f"{name} = {switched(parameters)[name]}"
    if parameters.get(name, MODE) == MODE:
        return f"{MODE} = {parameters[MODE]} ({setting})"
    return setting


def canonical_switches(parameters: dict[str, Value], *, is_by_position_alike: bool) -> None:
    """Spell out in place the switches that are not clean, and leave out the mode.

    is_by_position_alike: every branch always stands at its own number among the selected ones, so
    that ranges, offsets and channels by position are those by branch.
    """
    stands = dict(switched(parameters))
    if is_by_position_alike:
        stands |= {"range_index": "branch", "weight_offset": "own", "stem_channels": "own"}
    if stands["stem"] == "shared":
        stands["stem_channels"] = "own"
    parameters.pop(MODE, None)
    for one in SWITCHES:
        parameters.pop(one.name, None)
        if stands[one.name] != one.clean:
            parameters[one.name] = stands[one.name]
