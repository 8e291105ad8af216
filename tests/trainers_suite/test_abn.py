"""ABN's super-network: costs, golden numbers, allocations, sampling, training (I1-I10, G1-G3)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, plain_network, training_of, trial_of
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import Bits, tied
from bitsweep.cost import Convention, bitops, size_bits, weight_size_bits
from bitsweep.space import Value, resolve
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.layers import Quantized, QuantizedConv2d, QuantizedLinear, quantized_layers
from bitsweep_trainers.methods.abn import distilled_loss, drawn_allocations, network_loss
from bitsweep_trainers.methods.declared.abn import DECLARATION, decisions_of
from bitsweep_trainers.methods.table import METHODS
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.measured import measure_allocation
from bitsweep_trainers.quantizers.learned_step import LearnedStep
from bitsweep_trainers.quantizers.nested import NestedStep
from bitsweep_trainers.supernet import (
    SwitchableWeights,
    accumulate,
    allocate,
    decision_layers,
    draw_allocation,
    estimate_norms,
    re_estimated,
    super_network,
    three_sigma_step,
)
from bitsweep_trainers.switchable import SwitchableNorm, SwitchableStep

ABN = METHODS["abn"]
SMALL = tuple(map(tied, (2, 3, 4)))
NORM_OF_3 = "body.bn1.norms.3"
W = torch.tensor([-0.9, -0.3, 0.1, 0.6])


def resolved(
    bits: tuple[Bits, ...] = SMALL, given: Mapping[str, Value] | None = None
) -> Mapping[str, Value]:
    parameters = resolve(DECLARATION.parameters, given or {})
    DECLARATION.check(parameters, bits)
    return DECLARATION.canonical(parameters, bits)


def made_of(model: str = "small-cnn", **parameters: Value) -> loop.Training:
    trial = trial_of("abn", 2, 3, 4, model=model, parameters=parameters)
    return training_of(trial, few(train=64))


def some_images(made: loop.Training, count: int = 16) -> Tensor:
    return normalise(made.data.train_images[:count], made.data.mean, made.data.std)


def logits_at(made: loop.Training, widths: Sequence[int]) -> Tensor:
    allocate(made.network, widths)
    made.network.eval()
    with torch.no_grad():
        logits: Tensor = made.network(some_images(made))
    return logits


def quantized_at(made: loop.Training, path: str) -> Quantized:
    layer = made.network.get_submodule(path)
    assert isinstance(layer, QuantizedConv2d | QuantizedLinear)
    return layer


def mean_at(made: loop.Training, path: str) -> Tensor:
    """A copy of a norm's running mean."""
    norm = made.network.get_submodule(path)
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    return norm.running_mean.clone()


def initialised_weights(*widths: int) -> SwitchableWeights:
    weights = SwitchableWeights(widths)
    weights.initialise(W)
    return weights


@pytest.mark.parametrize(
    ("bits", "expected", "error"),
    [
        (2, [-0.95, 0.0, 0.0, 0.95], 0.05625),
        (3, [-1.096966, -0.548483, 0.0, 0.548483], 0.028298),
        (4, [-1.077199, -0.359066, 0.0, 0.718133], 0.014711),
    ],
)
def test_each_width_has_the_golden_first_step(
    bits: int, expected: list[float], error: float
) -> None:
    weights = initialised_weights(2, 3, 4)
    weights.bits = bits
    found = weights(W).detach()

    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert float((found - W).square().mean()) == pytest.approx(error, abs=1e-6)


def test_the_summed_loss_of_three_widths_has_the_golden_gradients() -> None:
    weights, w = initialised_weights(2, 3, 4), W.clone().requires_grad_()
    x = torch.tensor([1.0, -1.0, 2.0, 0.5])
    losses = []
    for bits in (2, 3, 4):
        weights.bits = bits
        loss = 0.5 * (torch.dot(weights(w), x) - 1) ** 2
        torch.autograd.backward(loss)
        losses.append(loss.item())
    assert w.grad is not None
    steps = [one.step for one in weights.steps.values() if isinstance(one, LearnedStep)]
    found = [one.grad.item() for one in steps if one.grad is not None]

    assert losses == pytest.approx([1.087813, 0.811846, 0.923530], abs=2e-6)
    assert w.grad.tolist() == pytest.approx([-4.108307, 4.108307, -8.216615, -2.054154], abs=5e-6)
    assert found == pytest.approx([0.291119, 0.116856, 0.185310], abs=2e-6)


def test_distillation_has_the_golden_loss() -> None:
    teacher, student = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    labels, p = torch.tensor([0]), torch.softmax(teacher, 1)

    assert distilled_loss(student, p, labels, weight=0).item() == pytest.approx(0.861995, abs=1e-6)
    assert distilled_loss(student, p, labels, weight=1).item() == pytest.approx(0.119630, abs=1e-6)
    mixed = network_loss(student, [teacher], labels=labels, teacher="max", weight=0.5)
    assert mixed.item() == pytest.approx(0.490812, abs=1e-6)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_soft_loss_is_never_negative_and_zero_for_the_teacher_itself(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(4, 3, generator=draws) for _ in range(2))
    labels, p = torch.zeros(4, dtype=torch.long), torch.softmax(teacher, 1)

    assert distilled_loss(student, p, labels, weight=1.0).item() >= -1e-6
    assert distilled_loss(teacher, p, labels, weight=1.0).item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_gets_no_gradient() -> None:
    teacher = torch.randn(2, 3, requires_grad=True)
    student = torch.randn(2, 3, requires_grad=True)
    labels = torch.tensor([0, 1])
    torch.autograd.backward(distilled_loss(student, torch.softmax(teacher, 1), labels, weight=0.5))

    assert teacher.grad is None
    assert student.grad is not None


def test_an_ensemble_teaches_the_mean_of_all_that_ran_before() -> None:
    first, second, student = (torch.randn(2, 3) for _ in range(3))
    labels = torch.tensor([0, 1])
    p = (torch.softmax(first, 1) + torch.softmax(second, 1)) / 2
    found = network_loss(student, [first, second], labels=labels, teacher="ensemble", weight=0.3)

    assert found == pytest.approx(distilled_loss(student, p, labels, weight=0.3).item(), rel=1e-6)


@given(bits=st.sampled_from([2, 3, 4]), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_weights_take_few_levels_again_and_again_the_same(bits: int, seed: int) -> None:
    v = torch.randn(200, generator=torch.Generator().manual_seed(seed))
    weights = SwitchableWeights([2, 3, 4])
    weights.initialise(v)
    weights.bits = bits
    current = weights.steps[str(bits)]
    assert isinstance(current, LearnedStep)
    found, step = weights(v).detach(), current.step.detach()
    codes = found / step

    assert len(torch.unique(found)) <= 2**bits
    assert torch.allclose(codes, codes.round(), atol=1e-5)
    assert torch.allclose(weights(found).detach(), found, atol=1e-6)
    is_inside = (v / step > -(2 ** (bits - 1))) & (v / step < 2 ** (bits - 1) - 1)
    assert float((found - v)[is_inside].abs().max()) <= float(step) / 2 + 1e-6
    assert bool((found[v.argsort()].diff() >= -1e-6).all())


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_nested_codes_of_fewer_bits_are_cut_from_those_of_more(seed: int) -> None:
    v = torch.randn(100, generator=torch.Generator().manual_seed(seed))
    nested = NestedStep(top_bits=4, truncation="floor", drop_lowest=False)
    nested.initialise(v)
    codes = {}
    for bits in (2, 3, 4):
        nested.bits = bits
        codes[bits] = (nested(v) / (nested.step * 2 ** (4 - bits))).detach().round()

    for high, low in ((4, 3), (4, 2), (3, 2)):
        assert torch.equal(codes[low], torch.floor(codes[high] / 2 ** (high - low)))


def test_three_sigma_steps_reach_three_deviations() -> None:
    reach = abs(W.mean().item()) + 3 * W.std().item()

    assert three_sigma_step(W, 3).item() == pytest.approx(reach / 4)


def test_a_projection_has_the_bits_of_the_layer_that_reads_the_same_input() -> None:
    made = made_of("resnet8-b")
    groups = decision_layers(made.network)
    option_a = [one.name for one in MODELS["resnet20"].layers((3, 32, 32), 10)[1:-1]]

    assert ("body.stage2.0.conv1", "body.stage2.0.shortcut.conv") in groups
    assert len(groups) == 6
    assert len(decisions_of(option_a)) == 18


def test_an_allocation_sets_layers_their_inputs_and_their_norms() -> None:
    made = made_of("resnet8-b")
    widths = (2, 3, 4, 2, 3, 4)
    allocate(made.network, widths)
    for group, bits in zip(decision_layers(made.network), widths, strict=True):
        for path in group:
            layer = quantized_at(made, path)
            norm = made.network.get_submodule(path.replace("conv", "bn"))
            assert isinstance(norm, SwitchableNorm)
            assert layer.weight_quantizer.bits == layer.input_quantizer.bits == bits
            assert norm.bits == bits


def test_a_wrong_number_of_decisions_is_refused() -> None:
    with pytest.raises(ValueError, match="bits for 2 decisions"):
        allocate(made_of().network, [2, 3, 4])


@pytest.mark.parametrize("weight_source", ["latent", "nested"])
def test_switching_allocations_and_back_is_exact_and_ends_stay(weight_source: str) -> None:
    made = made_of(weight_source=weight_source)
    before = logits_at(made, (2, 4))

    assert not torch.equal(logits_at(made, (4, 2)), before)
    assert torch.equal(logits_at(made, (2, 4)), before)
    ends = [quantized_at(made, path) for path in ("stem.conv", "head.linear")]
    assert all(one.weight_quantizer.bits == one.input_quantizer.bits == 8 for one in ends)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_uniform_allocation_is_that_width_by_selection_and_a_plain_lsq_network(
    bits: int,
) -> None:
    made = made_of()
    uniform = logits_at(made, (bits, bits))
    ABN.select(made.network, tied(bits))
    selected = made.network.eval()(some_images(made))
    single = training_of(trial_of("lsq", bits), few(train=64)).network
    load_single(single, made.network, bits)

    assert torch.equal(uniform, selected)
    assert torch.equal(uniform, single.eval()(some_images(made)))


def load_single(single: nn.Module, network: nn.Module, bits: int) -> None:
    """Copy one width of the super-network into an LSQ network."""
    state = {}
    for name, one in network.state_dict().items():
        kept = name.replace(f".steps.{bits}.", ".").replace(f".norms.{bits}.", ".")
        if ".steps." not in kept and ".norms." not in kept and not name.startswith("progress"):
            state[kept] = one
    single.load_state_dict(state)


def test_every_step_is_initialised_and_positive() -> None:
    made = made_of()
    steps = [one.step.item() for one in made.network.modules() if isinstance(one, LearnedStep)]
    inputs = [one for one in made.network.modules() if isinstance(one, SwitchableStep)]

    assert len(steps) == 2 * 3 * 2 + 4
    assert all(one > 0 and one != 1.0 for one in steps)
    assert all(not step.is_signed for one in inputs for step in one.steps.values())


def test_steps_and_norms_of_other_widths_get_no_gradient() -> None:
    made = made_of()
    made.network.train()
    allocate(made.network, (2, 4))
    labels = made.data.train_labels[:16]
    loss = functional.cross_entropy(made.network(some_images(made)), labels)
    torch.autograd.backward(loss)
    private = {
        name: one.grad is not None
        for name, one in made.network.named_parameters()
        if ".steps." in name or ".norms." in name
    }
    used = [".conv1.weight_quantizer.steps.2.", ".conv1.input_quantizer.steps.2.", ".bn1.norms.2."]
    used += [one.replace("1", "2", 1).replace("s.2.", "s.4.") for one in used]

    assert all(
        has_gradient == any(one in name for one in used) for name, has_gradient in private.items()
    )


def test_gradients_are_those_of_the_summed_loss() -> None:
    made = made_of(gradient_clip=0.0)
    other = deepcopy(made.network)
    images, labels = some_images(made), made.data.train_labels[:16]
    allocations = [(4, 4), (2, 3), (2, 2)]

    def loss(logits: Tensor, seen: Sequence[Tensor]) -> Tensor:
        return network_loss(logits, seen, labels=labels, teacher="max", weight=0.5)

    made.network.train()
    total = accumulate(made.network, images, allocations, loss=loss)
    other.train()
    entry, logits = other.get_submodule("stem")(images), []
    for allocation in allocations:
        allocate(other, allocation)
        logits.append(other.get_submodule("head")(other.get_submodule("body")(entry)))
    summed = torch.stack(
        [loss(one, [z.detach() for z in logits[:i]]) for i, one in enumerate(logits)]
    )
    torch.autograd.backward(summed.sum())
    pairs = zip(made.network.parameters(), other.parameters(), strict=True)

    assert total.item() == pytest.approx(summed.sum().item(), rel=1e-6)
    for one, expected in pairs:
        if expected.grad is not None:
            assert one.grad is not None
            assert torch.allclose(one.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_drawn_allocations_reach_both_extremes() -> None:
    draws = torch.Generator().manual_seed(0)
    means = [
        sum(draw_allocation([2, 3, 4], 18, tilt=3.0, generator=draws)) / 18 for _ in range(500)
    ]

    assert sum(one < 2.3 for one in means) > 50
    assert sum(one > 3.7 for one in means) > 50
    assert sum(means) / 500 == pytest.approx(3.0, abs=0.1)


def test_without_tilt_drawn_means_gather_in_the_middle() -> None:
    draws = torch.Generator().manual_seed(0)
    means = torch.tensor(
        [sum(draw_allocation([2, 3, 4], 18, tilt=0.0, generator=draws)) / 18 for _ in range(2000)]
    )

    assert means.std().item() == pytest.approx(0.192, abs=0.01)


def test_equal_seeds_draw_equal_allocations_and_the_extremes_always_run() -> None:
    trial = trial_of("abn", 2, 3, 4)
    drawn = [
        drawn_allocations(trial, 6, progress=0.9, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    ]

    assert drawn[0] == drawn[1]
    assert drawn[0][0] == (4,) * 6
    assert drawn[0][-1] == (2,) * 6
    assert len(drawn[0]) == 4


def test_the_first_share_of_a_training_draws_uniform_networks_alone() -> None:
    trial = trial_of("abn", 2, 3, 4)
    draws = torch.Generator().manual_seed(0)
    early = drawn_allocations(trial, 6, progress=0.1, generator=draws)
    late = [drawn_allocations(trial, 6, progress=0.9, generator=draws)[1] for _ in range(10)]

    assert all(len(set(one)) == 1 for one in early)
    assert any(len(set(one)) > 1 for one in late)


def test_one_width_trains_one_network_and_keeps_no_inert_parameter() -> None:
    trial = trial_of("abn", 3)
    drawn = drawn_allocations(trial, 2, progress=1.0, generator=torch.Generator())

    assert drawn == [(3, 3)]
    assert "teacher" not in trial.parameters


def test_a_soft_loss_without_weight_is_no_teacher() -> None:
    assert resolved(given={"distillation_weight": 0.0}) == resolved(given={"teacher": "none"})


def test_unequal_bits_and_overfull_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="equal bits"):
        resolved((Bits(weight=2, activation=4),))
    with pytest.raises(ValueError, match="shares of one training"):
        resolved(given={"uniform_share": 0.8, "rising_share": 0.5})


@pytest.mark.parametrize("weight_source", ["latent", "nested"])
def test_resnet20_has_the_golden_storage(weight_source: str) -> None:
    layers = MODELS["resnet20"].layers((3, 32, 32), 10)
    parameters = resolved(given={"weight_source": weight_source})
    layer_bits = DECLARATION.layer_bits(layers, tied(4), parameters, SMALL)
    weights = weight_size_bits(layers, layer_bits, Convention.BODY)
    rest = size_bits(layers, layer_bits, Convention.BODY) - weights
    norms, steps = 129_024, 3_456 if weight_source == "latent" else 18 * 4 * 32

    assert weights == 1_069_056 * (8 if weight_source == "latent" else 1)
    assert rest == norms + steps
    assert bitops(layers, layer_bits, Convention.BODY) == 16 * 160_432_128 / 4


@pytest.mark.parametrize("parameters", [{}, {"weight_source": "nested"}, {"norms": "shared"}])
def test_the_declared_costs_are_those_of_the_network(parameters: dict[str, Any]) -> None:
    trial = trial_of("abn", 2, 3, 4, parameters=parameters)
    network = ABN.convert(plain_network(), trial, torch.Generator())
    body = network.get_submodule("body")
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    layer_bits = DECLARATION.layer_bits(layers, tied(3), trial.parameters, SMALL)
    num_weights = sum(layer.weight.numel() for _, layer in quantized_layers(body))
    num_scalars = sum(one.numel() for one in body.parameters()) - num_weights
    stored = 4 if parameters.get("weight_source") == "nested" else 32

    assert (
        size_bits(layers, layer_bits, Convention.BODY) == stored * num_weights + 32 * num_scalars
    )


def test_shared_norms_stay_single() -> None:
    network = super_network(plain_network(), [2, 4], has_own_norms=False)

    assert not [one for one in network.modules() if isinstance(one, SwitchableNorm)]


def test_re_estimated_norms_have_the_statistics_of_their_inputs_and_weights_stay() -> None:
    made = made_of()
    images = some_images(made, 64)
    before = {name: one.clone() for name, one in made.network.named_parameters()}
    estimate_norms(made.network, [images], [(3, 3)])
    norm, estimated = made.network.get_submodule("body.bn1.norms.3"), mean_at(made, NORM_OF_3)
    seen: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made.network.train()
    made.network(images)
    handle.remove()

    assert torch.allclose(estimated, seen[0].mean((0, 2, 3)), atol=1e-3)
    assert all(torch.equal(one, before[name]) for name, one in made.network.named_parameters())


def test_re_estimation_ends_with_its_block() -> None:
    made = made_of()
    paths = [f"body.bn{layer}.norms.{bits}" for layer in (1, 2) for bits in (2, 3, 4)]
    kept = [mean_at(made, path) for path in paths]
    with re_estimated(made.network, [some_images(made)], [(2, 3)]):
        inside = [mean_at(made, path) for path in paths]
    after = [mean_at(made, path) for path in paths]
    changed = [not torch.equal(one, other) for one, other in zip(kept, inside, strict=True)]

    assert changed == [True, False, False, False, True, False]
    assert all(torch.equal(one, other) for one, other in zip(kept, after, strict=True))


def test_any_allocation_is_measured_with_its_bits_and_without_training() -> None:
    made = made_of("resnet8-b")
    state = {
        name: one.clone()
        for name, one in made.network.state_dict().items()
        if isinstance(one, Tensor)
    }
    widths = (2, 3, 4, 2, 3, 4)
    found = measure_allocation(
        made.network, made.trial, made.data, split="validation", widths=widths
    )
    layers = MODELS["resnet8-b"].layers((1, 28, 28), 10)
    by_path = {
        path: bits
        for group, bits in zip(decision_layers(made.network), widths, strict=True)
        for path in group
    }
    expected = sum(one.macs * by_path[one.name] ** 2 for one in layers if one.place == "body")

    assert found.allocation.label.startswith("w=[2,3,4,2,4,3,4,3] a=")
    assert bitops(layers, found.layer_bits, Convention.BODY) == pytest.approx(expected)
    assert all(torch.equal(one, made.network.state_dict()[name]) for name, one in state.items())


def test_a_uniform_allocation_is_measured_as_its_width() -> None:
    made = made_of()
    mixed = measure_allocation(
        made.network, made.trial, made.data, split="validation", widths=(3, 3)
    )
    uniform = logits_on_validation(made, 3)
    labels = made.data.validation_labels

    assert mixed.correct == int((uniform.argmax(1) == labels).sum())


def logits_on_validation(made: loop.Training, bits: int) -> Tensor:
    ABN.select(made.network, tied(bits))
    images = normalise(made.data.validation_images, made.data.mean, made.data.std)
    logits: Tensor = made.network.eval()(images)
    return logits
