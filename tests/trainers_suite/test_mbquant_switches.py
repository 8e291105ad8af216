"""MBQuant's ablations: what each switch changes, drawn tables, depthwise nets, and execution."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.bitsweep_suite.test_trial_identity import planned
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor, nn

from bitsweep.bits import Bits, tied
from bitsweep.cost import Convention, bitops, size_bits
from bitsweep.space import Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers.branch_network import (
    active_rows,
    branch_layers,
    branch_network,
    branch_norms,
)
from bitsweep_trainers.branch_rows import BranchShuffle, FanOut, FrontIdentity, shuffled
from bitsweep_trainers.branches import BranchLayer
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.methods.declared.branch_switches import SWITCHES
from bitsweep_trainers.methods.declared.branch_table import branch_table
from bitsweep_trainers.methods.declared.mbquant import MBQUANT as DECLARED
from bitsweep_trainers.methods.declared.mbquant import ONE_PASS_BYTES, one_pass_bytes
from bitsweep_trainers.methods.mbquant import MBQUANT, branch_plan, draw_table, widths_loss
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS

EVEN = (2, 4, 6, 8)
BITS = tuple(map(tied, EVEN))
CIFAR = (3, 32, 32)
REFERENCE = [(one.name, one.reference) for one in SWITCHES]
# Each switch on a network in which it has something to act on, with odd widths too.
SWITCH_CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("small-cnn", (2, 3, 4, 8), {"range_index": "position"}),
    ("resnet8-b", (2, 4, 5), {"shuffle": "downsample"}),
    ("resnet8-b", (2, 4, 5), {"shuffle": "every_block"}),
    ("small-cnn", EVEN, {"stem": "wide"}),
    ("mobilenet-v2", (3, 4), {"depthwise_bits": "width"}),
    ("small-cnn", (2, 3, 4, 8), {"weight_offset": "input_channels"}),
    ("small-cnn", (2, 3, 4), {"range_std": "filter"}),
    ("resnet8-b", (4, 5), {"num_branches": 4, "stem": "wide", "stem_channels": "front"}),
]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def trial_with(*widths: int, model: str = "small-cnn", **parameters: Value) -> Trial:
    return trial_of("mbquant", *(widths or EVEN), model=model, parameters=parameters)


def network_of(trial: Trial) -> nn.Module:
    """The network for 3 x 32 x 32 images that a trial's branches make of its model."""
    network = build(trial.model, CIFAR, 10, seeded())
    layers = MODELS[trial.model].layers(CIFAR, 10)
    return branch_network(network, layers, branch_plan(trial), seeded())


def layer_at(network: nn.Module, path: str) -> BranchLayer:
    layer = network.get_submodule(f"body.{path}")
    assert isinstance(layer, BranchLayer)
    return layer


def filters_at(layer: BranchLayer, row: int) -> tuple[int, int]:
    """First and last filter that a row runs."""
    filters = layer.filters_TO[layer.tensors_R[row]]
    return int(filters[0]), int(filters[-1])


def window_at(network: nn.Module, path: str, bits: int) -> tuple[int, int]:
    """First and last filter that a width runs, its branches taken together."""
    layer, rows = layer_at(network, path), active_rows(network)
    spans = [filters_at(layer, row) for row, (b, _) in enumerate(rows.full) if b == bits]
    assert all(end + 1 == begin for (_, end), (begin, _) in pairwise(spans))
    return spans[0][0], spans[-1][1]


def test_ranges_by_position_make_seven_tensors_of_four_branches() -> None:
    by_branch, by_position = (
        branch_layers(network_of(trial_with(range_index=one)))[0] for one in ("branch", "position")
    )
    pairs = {
        (int(by_position.filters_TO[t][0]) // 32, int(by_position.slots_T[t])) for t in range(7)
    }

    assert len(by_branch.weight_codes()) == 4
    assert pairs == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)}


def test_ranges_by_position_store_fourteen_bits_a_weight() -> None:
    layers = MODELS["small-cnn"].layers(CIFAR, 10)
    stored = []
    for one in ("branch", "position"):
        parameters = resolve(DECLARED.parameters, {"range_index": one})
        found = DECLARED.layer_bits(layers, tied(4), DECLARED.canonical(parameters, BITS), BITS)
        stored.append(found[1].stored)

    assert stored == [8, 14]


@pytest.mark.parametrize(
    ("path", "bits", "clean", "cut"),
    [
        ("stage2.0.conv1", 4, (32, 95), (16, 79)),
        ("stage2.0.conv1", 6, (32, 127), (16, 111)),
        ("stage2.0.shortcut.conv", 4, (32, 95), (16, 79)),
        ("stage3.0.conv1", 4, (64, 191), (32, 159)),
        ("stage2.0.conv2", 4, (32, 95), (32, 95)),
        ("stage2.0.conv1", 2, (0, 31), (0, 31)),
        ("stage2.0.conv1", 8, (0, 127), (0, 127)),
    ],
)
def test_the_offset_of_the_code_has_the_measured_windows(
    path: str, bits: int, clean: tuple[int, int], cut: tuple[int, int]
) -> None:
    found = [
        window_at(network_of(trial_with(model="resnet20-b", weight_offset=one)), path, bits)
        for one in ("own", "input_channels")
    ]

    assert found == [clean, cut]


def test_the_range_of_the_code_begins_from_the_std_of_one_filter() -> None:
    layer = branch_layers(network_of(trial_with(range_std="filter")))[0]
    filters = layer.weight.detach().flatten(1)[:4]

    assert torch.allclose(layer.weight_upper, 3 * filters.std(1))
    assert torch.equal(layer.weight_lower, -layer.weight_upper)


def test_a_wide_stem_has_k_times_the_channels_and_each_branch_its_own() -> None:
    trial = trial_with(model="resnet8", stem="wide")
    plain = build("resnet8", CIFAR, 10, seeded())
    network = MBQUANT.convert(plain, replace(trial, data="cifar10"), seeded())
    features = torch.randn(2, 64, 4, 4)
    rows, fan_out = active_rows(network), network.get_submodule("body.fan_out")
    assert isinstance(fan_out, FanOut)
    found = fan_out(features).unflatten(1, (len(rows.full), 16))

    assert network.get_submodule("stem.conv").get_parameter("weight").shape[0] == 64
    for row, (_, branch) in enumerate(rows.full):
        assert torch.equal(found[:, row], features[:, 16 * branch : 16 * (branch + 1)])


def test_a_wide_stem_costs_four_stems() -> None:
    layers = MODELS["resnet20-b"].layers(CIFAR, 10)
    costs = []
    for one in ("shared", "wide"):
        parameters = DECLARED.canonical(resolve(DECLARED.parameters, {"stem": one}), BITS)
        found = DECLARED.layer_bits(layers, tied(2), parameters, BITS)
        costs.append(
            [
                bitops(layers, found, Convention.WHOLE_ENDS32),
                size_bits(layers, found, Convention.WHOLE_ENDS32),
            ]
        )
    (narrow_ops, narrow_size), (wide_ops, wide_size) = costs

    assert wide_ops - narrow_ops == 1024 * (1_769_472 - 442_368)
    assert wide_size - narrow_size == 32 * 3 * (16 * 27 + 2 * 16)


@pytest.mark.parametrize(
    ("model", "path"), [("resnet8", "shortcut"), ("resnet18-small", "downsample")]
)
def test_the_identity_of_the_code_reads_the_stem_from_the_front(model: str, path: str) -> None:
    network = network_of(trial_with(model=model, stem="wide", stem_channels="front"))
    shortcut = network.get_submodule(f"body.stage1.0.{path}")
    fan_out = network.get_submodule("body.fan_out")
    assert isinstance(shortcut, FrontIdentity) and isinstance(fan_out, FanOut)
    active_rows(network).activate((4,))
    size = {"resnet8": 16, "resnet18-small": 64}[model]
    features = torch.randn(1, 4 * size, 3, 3)
    convolved = fan_out(features)

    assert torch.equal(convolved, features[:, size : 3 * size])
    assert torch.equal(shortcut(convolved), features[:, : 2 * size])


@pytest.mark.parametrize(
    ("model", "expected"),
    [("resnet8-b", [0, 2, 3]), ("resnet18-small", [0, 3, 8]), ("resnet50", [0, 4, 16])],
)
def test_shuffles_stand_in_the_blocks_that_are_asked_for(model: str, expected: list[int]) -> None:
    counts = []
    for where in ("off", "downsample", "every_block"):
        network = network_of(trial_with(2, model=model, shuffle=where))
        counts.append(sum(isinstance(one, BranchShuffle) for one in network.modules()))

    assert counts == expected


@pytest.mark.parametrize(
    ("channels", "groups", "golden"),
    [
        (8, 2, [0, 4, 1, 5, 2, 6, 3, 7]),
        (12, 3, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]),
        (8, 4, [0, 2, 4, 6, 1, 3, 5, 7]),
        (5, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_the_shuffle_has_the_golden_orders(channels: int, groups: int, golden: list[int]) -> None:
    assert shuffled(channels, groups) == golden


def test_each_width_is_shuffled_by_itself_and_two_and_three_bits_are_not() -> None:
    network = network_of(trial_with(2, 3, 4, 5, model="resnet8-b", shuffle="every_block"))
    shuffle = next(one for one in network.modules() if isinstance(one, BranchShuffle))
    rows = active_rows(network)
    orders = {}
    for bits in (2, 3, 4, 5):
        rows.activate((bits,))
        orders[bits] = shuffle.order()

    assert orders[2] == list(range(len(orders[2]))) and orders[3] == list(range(len(orders[3])))
    assert orders[4] == shuffled(2 * shuffle.channels, 2)
    assert all(sorted(one) == list(range(len(one))) for one in orders.values())


EXECUTIONS = ("row by row", "grouped", "per_width")


def gradients(made: Any, execution: str) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a batch in double precision, computed one way.

    On a CPU one pass takes the rows in turn; "grouped" is what it does elsewhere.
    """
    data = made.data
    network = made.network.double().train()
    network.zero_grad()
    images = normalise(data.train_images[:8], data.mean, data.std).double()
    labels, trial = data.train_labels[:8], made.trial
    if execution == "grouped":
        rows, drawn = active_rows(network), draw_table(trial, seeded())
        rows.activate(rows.all_widths, drawn)
        loss = widths_loss(network(images).chunk(len(rows.all_widths)), labels, trial)
        torch.autograd.backward(loss)
    else:
        execution = "per_width" if execution == "per_width" else "one_pass"
        trial = replace(trial, parameters={**trial.parameters, "execution": execution})
        loss = MBQUANT.backward(network, trial, images, labels, seeded())
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


@pytest.mark.parametrize(
    ("model", "widths", "parameters"),
    [
        ("small-cnn", EVEN, {}),
        ("small-cnn", (2, 3, 4), {}),
        ("small-cnn", tuple(range(2, 9)), {}),
        ("small-cnn", EVEN, {"selection": "random"}),
        ("small-cnn", (2, 3, 4, 5), {"selection": "random", "num_branches": 4}),
        ("small-cnn", EVEN, {"distillation_weight": 0.0}),
        ("small-cnn", EVEN, {"distillation_temperature": 4.0}),
        ("resnet8-b", (2, 3, 4, 5), {"mode": "reference", "num_branches": 4, "ends": 32}),
        *SWITCH_CASES,
    ],
)
def test_every_execution_has_the_same_loss_and_gradients(
    model: str, widths: tuple[int, ...], parameters: Mapping[str, Value]
) -> None:
    made = training_of(trial_with(*widths, model=model, **parameters), few(train=8))
    loss, expected = gradients(made, EXECUTIONS[0])
    for execution in EXECUTIONS[1:]:
        other_loss, found = gradients(made, execution)
        assert other_loss == pytest.approx(loss, rel=1e-9)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            scale = 1 + float(gradient.abs().max())
            assert (found[name] - gradient).abs().max() <= 1e-6 * scale, name


@pytest.mark.parametrize(("model", "widths", "parameters"), SWITCH_CASES)
def test_each_switch_acts_where_it_is_tested(
    model: str, widths: tuple[int, ...], parameters: dict[str, Any]
) -> None:
    *others, name = parameters
    clean = {one: parameters[one] for one in others}
    losses = []
    for given in (clean, parameters):
        made = training_of(trial_with(*widths, model=model, **given), few(train=8))
        losses.append(gradients(made, "grouped")[0])

    assert losses[0] != losses[1], name


def test_all_executions_leave_the_same_batch_norm_statistics() -> None:
    states = []
    for execution in EXECUTIONS:
        made = training_of(trial_with(2, 3, 4), few(train=8))
        gradients(made, execution)
        states.append({n: b for n, b in made.network.named_buffers() if "running" in n})

    for name, one in states[0].items():
        assert all(torch.allclose(one, other[name], atol=1e-9) for other in states[1:]), name


@pytest.mark.parametrize(("name", "value"), REFERENCE)
def test_each_switch_alone_trains_and_serves_every_width(name: str, value: str) -> None:
    extra = {"stem": "wide"} if name == "stem_channels" else {}
    made = training_of(
        trial_with(2, 4, 6, model="resnet8-b", **{**extra, name: value}), few(train=8)
    )
    _, found = gradients(made, "row by row")
    made.network.float().eval()
    data = made.data
    for bits in made.trial.bits:
        MBQUANT.select(made.network, bits)
        logits = made.network(normalise(data.test_images[:4], data.mean, data.std))
        assert logits.shape == (4, 10) and logits.isfinite().all()

    assert all(one.isfinite().all() for one in found.values())


@pytest.mark.parametrize("widths", [(2, 3, 4), tuple(range(2, 9)), (3,), (7,), (5, 6)])
def test_every_set_of_widths_trains(widths: tuple[int, ...]) -> None:
    made = training_of(trial_with(*widths), few(train=8))
    loss, found = gradients(made, "row by row")

    assert torch.isfinite(torch.tensor(loss))
    assert all(one.isfinite().all() for one in found.values())


def test_a_drawn_table_gives_each_width_its_number_of_branches() -> None:
    trial = trial_with(2, 3, 4, 5, selection="random", num_branches=4)
    generator = seeded()
    tables = [draw_table(trial, generator) for _ in range(40)]
    again = draw_table(trial, seeded())

    assert again == tables[0] != tables[1]
    for table in tables:
        assert table is not None
        for bits, uses in table.items():
            assert len({one.branch for one in uses}) == len(uses) == -(-bits // 2)
            assert [one.is_narrow for one in uses] == [False] * (bits // 2) + [True] * (bits % 2)
    drawn = {one.branch for table in tables if table for one in table[2]}
    assert drawn == {0, 1, 2, 3}


def test_a_network_of_drawn_tables_is_measured_at_the_authors_table() -> None:
    network = network_of(trial_with(selection="random"))
    rows = active_rows(network)
    rows.activate((4,))

    assert [(bits, branch) for bits, branch, _ in rows.active_places] == [(4, 1), (4, 2)]
    assert len(rows.full) == 16
    assert len(branch_norms(network)[0].weight) == 16 * branch_norms(network)[0].channels


def canonical(bits: tuple[Bits, ...] = BITS, **given: Any) -> Mapping[str, Value]:
    parameters: Mapping[str, Value] = resolve(DECLARED.parameters, given)
    DECLARED.check(parameters, bits)
    return DECLARED.canonical(parameters, bits)


def test_the_reference_mode_is_its_switches_one_by_one() -> None:
    spelled: dict[str, Any] = dict(REFERENCE)

    clean: dict[str, Any] = {one.name: one.clean for one in SWITCHES}

    assert canonical(mode="reference") == canonical(**spelled)
    assert canonical(mode="reference", shuffle="off") == canonical(**{**spelled, "shuffle": "off"})
    assert canonical(mode="reference", **clean) == canonical()


def test_a_clean_network_names_no_switch() -> None:
    names = {"mode", "ends", "branch_start", "execution", *(one.name for one in SWITCHES)}

    assert names.isdisjoint(canonical())


@pytest.mark.parametrize("name", ["range_index", "weight_offset", "stem_channels"])
def test_what_goes_by_position_is_inert_where_that_is_the_branch(name: str) -> None:
    given: dict[str, Any] = {name: dict(REFERENCE)[name]}

    assert canonical(selection="nested", **given) == canonical(selection="nested")


def test_the_front_of_a_shared_stem_means_nothing() -> None:
    assert canonical(stem_channels="front") == canonical()


def test_branches_that_are_drawn_take_no_noise() -> None:
    assert "branch_noise" not in canonical(branch_start="drawn")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"selection": "random", "range_index": "position"}, "range_index = position needs"),
        ({"selection": "random", "weight_offset": "input_channels"}, "weight_offset = input"),
        ({"selection": "balanced", "weight_offset": "input_channels"}, "neighbouring branches"),
    ],
)
def test_switches_that_contradict_the_selection_are_refused(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        canonical(**given)


def test_an_amortized_table_differs_from_the_authors_up_to_four_bits_alone() -> None:
    small = tuple(map(tied, (2, 3, 4)))

    assert canonical(selection="amortized")["selection"] == "paper_code"
    assert canonical(small, selection="amortized", num_branches=4)["selection"] == "amortized"
    assert canonical(small, selection="amortized", num_branches=2)["selection"] == "paper_code"


def test_drawn_branches_have_the_sd_of_their_fan_out() -> None:
    scales = {"drawn": 1.0, "drawn_grouped": 0.5}
    for start, scale in scales.items():
        layer = branch_layers(network_of(trial_with(branch_start=start)))[1]
        expected = scale * (2 / (64 * 9)) ** 0.5

        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("ends", [8, 32])
def test_the_ends_are_of_eight_bits_or_in_floating_point(ends: int) -> None:
    made = training_of(trial_with(ends=ends), few(train=8))
    stem = made.network.get_submodule("stem.conv")

    assert hasattr(stem, "input_quantizer") == (ends == 8)
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    bits = DECLARED.layer_bits(layers, tied(4), made.trial.parameters, BITS)
    assert bits[0].weight == bits[-1].weight == ends


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, 14_491_648), ({"ends": 32}, 123_486_208), ({"ends": 32, "stem": "wide"}, 470_302_720)],
)
def test_ends_in_floating_point_are_not_counted_at_eight_bits(
    parameters: dict[str, Value], expected: int
) -> None:
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    given = DECLARED.canonical(resolve(DECLARED.parameters, parameters), BITS)
    found = DECLARED.layer_bits(layers, tied(2), given, BITS)

    assert bitops(layers, found, Convention.WHOLE_ENDS8) == expected
    if "ends" in parameters:
        assert expected == bitops(layers, found, Convention.WHOLE_ENDS32)


def test_execution_is_settled_before_a_trial_has_its_identity() -> None:
    small = planned("mbquant", 2, 4)[0]
    asked = planned("mbquant", 2, 4, execution="per_width")[0]

    assert "execution" not in small.parameters
    assert planned("mbquant", 2, 4, execution="one_pass")[0].id == small.id != asked.id
    assert asked.parameters["execution"] == "per_width"


def test_a_large_batch_of_maps_is_run_width_by_width() -> None:
    layers = MODELS["resnet20"].layers(CIFAR, 10)
    parameters = resolve(DECLARED.parameters, {})
    table = branch_table(EVEN, 4, "paper_code")
    for batch, expected in ((128, "one_pass"), (4096, "per_width")):
        settled = DECLARED.settle(parameters, BITS, layers, batch)
        is_small = one_pass_bytes(layers, table, batch) <= ONE_PASS_BYTES

        assert settled["execution"] == expected
        assert is_small == (expected == "one_pass")


def test_drawn_tables_take_the_memory_of_what_is_drawn() -> None:
    layers = MODELS["resnet20"].layers(CIFAR, 10)
    bits = tuple(range(2, 9))
    drawn, fixed = (branch_table(bits, 8, one) for one in ("random", "nested"))

    assert one_pass_bytes(layers, drawn, 128) == one_pass_bytes(layers, fixed, 128)
