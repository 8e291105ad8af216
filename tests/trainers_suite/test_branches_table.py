"""Selection tables and narrow widths: arithmetic without torch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.trials import SMALL_MODELS

from bitsweep.cost import Layer
from bitsweep_trainers.methods.declared.branch_table import (
    FIXED_POLICIES,
    NARROW_RATIO,
    BranchTable,
    branch_table,
    branches_for,
    is_odd,
    loads,
    mac_ratio,
    narrow_layers,
    num_twins,
)
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.models.projections import projected_block

STAGES = (64, 128, 256, 512)
TORCHVISION = ("resnet18", "resnet18-small", "resnet34", "resnet50", "mobilenet-v2")


def spelled(table: BranchTable) -> dict[int, str]:
    """The table in the notation of the paper notes: h is a narrow branch."""
    return {
        b: " ".join(f"{use.branch}{'h' if use.is_narrow else ''}" for use in uses)
        for b, uses in table.items()
    }


def convolution(name: str, channels: tuple[int, int], kernel: int, size: int) -> Layer:
    weights = channels[0] * channels[1] * kernel**2
    return Layer(
        name=name,
        kind="conv",
        place="body",
        macs=weights * size**2,
        weights=weights,
        norm_channels=channels[1],
        in_channels=channels[0],
        out_channels=channels[1],
    )


def test_the_authors_table_is_reproduced_for_two_to_eight_bits() -> None:
    table = branch_table(tuple(range(2, 9)), 4, "paper_code")

    assert spelled(table) == {
        2: "0",
        3: "0 1h",
        4: "1 2",
        5: "1 2 3h",
        6: "1 2 3",
        7: "0 1 2 3h",
        8: "0 1 2 3",
    }


def test_the_nested_table_takes_the_first_branches() -> None:
    table = branch_table((2, 3, 4, 5, 6, 7, 8), 4, "nested")

    assert list(spelled(table).values()) == [
        "0",
        "0 1h",
        "0 1",
        "0 1 2h",
        "0 1 2",
        "0 1 2 3h",
        "0 1 2 3",
    ]


@pytest.mark.parametrize("num_branches", [2, 4])
def test_the_authors_files_for_two_three_four_bits_do_not_amortize(num_branches: int) -> None:
    table = branch_table((2, 3, 4), num_branches, "paper_code")

    assert spelled(table) == {2: "0", 3: "0 1h", 4: "0 1"}


def test_even_bits_have_the_golden_loads() -> None:
    bits = (2, 4, 6, 8)

    assert loads(branch_table(bits, 4, "paper_code"), 4) == (2, 3, 3, 2)
    assert loads(branch_table(bits, 4, "nested"), 4) == (4, 3, 2, 1)
    assert sorted(loads(branch_table(bits, 4, "balanced"), 4)) == [2, 2, 3, 3]


def test_the_authors_table_has_twins_and_the_balanced_one_none() -> None:
    bits = (2, 4, 6, 8)

    assert num_twins(branch_table(bits, 4, "paper_code"), 4) == 1
    assert num_twins(branch_table(bits, 4, "balanced"), 4) == 0


def test_too_few_branches_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="num_branches must be at least 4 for 8 bits, got 3"):
        branch_table((2, 8), 3, "nested")


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sets(st.integers(2, 8), min_size=1).map(lambda some: tuple(sorted(some))),
    spare=st.integers(0, 4),
    policy=st.sampled_from(FIXED_POLICIES),
)
def test_every_table_gives_each_width_its_branches(
    bits: tuple[int, ...], spare: int, policy: str
) -> None:
    num_branches = min(8, branches_for(max(bits)) + spare)
    table = branch_table(bits, num_branches, policy)

    assert tuple(table) == bits
    for b, uses in table.items():
        assert len({use.branch for use in uses}) == len(uses) == branches_for(b)
        assert all(0 <= use.branch < num_branches for use in uses)
        assert [use.is_narrow for use in uses] == [False] * (len(uses) - 1) + [is_odd(b)]


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sets(st.integers(2, 8), min_size=1).map(lambda some: tuple(sorted(some))),
    spare=st.integers(0, 4),
)
def test_the_balanced_table_has_the_least_possible_loads(
    bits: tuple[int, ...], spare: int
) -> None:
    num_branches = min(8, branches_for(max(bits)) + spare)
    counts = loads(branch_table(bits, num_branches, "balanced"), num_branches)

    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("model", "widths", "macs", "ratio"),
    [
        ("resnet18", (40, 76, 184, 396), 1_695_547_392, 0.4859),
        ("resnet34", (39, 78, 188, 400), 3_545_235_456, 0.4889),
    ],
)
def test_the_authors_narrow_widths_have_the_measured_shares_of_macs(
    model: str, widths: tuple[int, ...], macs: int, ratio: float
) -> None:
    body = [one for one in MODELS[model].layers((3, 224, 224), 1000) if one.place == "body"]

    assert sum(layer.macs for layer in body) == macs
    assert mac_ratio(body, dict(zip(STAGES, widths, strict=True))) == pytest.approx(
        ratio, abs=5e-5
    )


@pytest.mark.parametrize("model", [*SMALL_MODELS, *TORCHVISION])
def test_a_narrow_branch_costs_about_half_a_branch_in_every_model(model: str) -> None:
    layers = MODELS[model].layers((3, 32, 32), 10)
    narrow = narrow_layers(layers)
    body = [layer for layer in layers if layer.place == "body"]
    ratio = sum(one.macs * narrow[one.name].mac_ratio for one in body) / sum(
        one.macs for one in body
    )
    plain = [one for one in body if projected_block(one.name) is None]

    assert NARROW_RATIO[0] <= ratio <= NARROW_RATIO[1]
    assert narrow[plain[0].name].in_channels == plain[0].in_channels
    assert narrow[plain[-1].name].out_channels == plain[-1].out_channels


def test_a_body_of_one_layer_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="odd bits"):
        narrow_layers((convolution("body.conv", (8, 8), 3, 4),))
