"""MBQuant: what it costs, which parameters mean the same, its loss and its training."""

from collections.abc import Mapping

import pytest
import torch
from tests.trainers_suite.trials import SMALL_MODELS
from torch import Tensor, nn

from bitsweep.bits import Bits, tied
from bitsweep.cost import Convention, Layer, bitops, size_bits, weight_size_bits
from bitsweep.space import Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers.branch_network import branch_layers
from bitsweep_trainers.distillation import student_loss
from bitsweep_trainers.methods.declared.branch_table import narrow_layers
from bitsweep_trainers.methods.declared.mbquant import MBQUANT as DECLARED
from bitsweep_trainers.methods.mbquant import MBQUANT, widths_loss
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS

EVEN = tuple(map(tied, (2, 4, 6, 8)))
SMALL = tuple(map(tied, (2, 3, 4)))
CIFAR = (3, 32, 32)


def resolved(
    bits: tuple[Bits, ...], given: Mapping[str, Value] | None = None
) -> Mapping[str, Value]:
    parameters = resolve(DECLARED.parameters, given or {})
    DECLARED.check(parameters, bits)
    return DECLARED.canonical(parameters, bits)


def trial_of(bits: tuple[Bits, ...], **given: Value) -> Trial:
    return Trial(
        trainer="image",
        method="mbquant",
        model="small-cnn",
        data="fashion-mnist-6k",
        data_sha256="",
        split_rule="",
        bits=bits,
        parameters=resolved(bits, given),
        epochs=1,
        batch_size=32,
        seed=0,
        numerics={},
    )


def layers_of(model: str) -> tuple[Layer, ...]:
    return MODELS[model].layers(CIFAR, 10)


@pytest.mark.parametrize(
    ("bits", "expected"), [(2, 1.615e8), (4, 6.459e8), (6, 1.453e9), (8, 2.584e9)]
)
def test_resnet20_with_projections_has_the_golden_body_bitops(bits: int, expected: float) -> None:
    layers = layers_of("resnet20-b")
    layer_bits = DECLARED.layer_bits(layers, tied(bits), resolved(EVEN), EVEN)
    operations = bitops(layers, layer_bits, Convention.BODY)

    assert operations == bits**2 * 40_370_176
    assert operations == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize("model", SMALL_MODELS)
@pytest.mark.parametrize("bits", range(2, 9))
def test_b_bits_cost_b_squared_a_mac_and_odd_ones_a_little_less(model: str, bits: int) -> None:
    layers = layers_of(model)
    every = tuple(map(tied, range(2, 9)))
    layer_bits = DECLARED.layer_bits(layers, tied(bits), resolved(every), every)
    operations = bitops(layers, layer_bits, Convention.BODY)
    uniform = bits**2 * sum(layer.macs for layer in layers if layer.place == "body")

    if bits % 2 == 0:
        assert operations == uniform
    else:
        assert 0.98 * uniform <= operations <= uniform


def test_storage_counts_every_branch_range_and_batch_norm() -> None:
    layers = layers_of("small-cnn")
    layer_bits = DECLARED.layer_bits(layers, tied(4), resolved(SMALL), SMALL)
    body = [layer for layer in layers if layer.place == "body"]
    narrow = narrow_layers(layers)
    weights = sum(layer.weights for layer in body) * 2 * 2  # two branches of 2 bits
    norms = sum(2 * (4 * one.norm_channels + narrow[one.name].out_channels) for one in body)
    ranges = len(body) * 2 * (2 + 5)  # two weight tensors, five inputs at a width

    assert weight_size_bits(layers, layer_bits, Convention.BODY) == weights
    assert size_bits(layers, layer_bits, Convention.BODY) == weights + 32 * (norms + ranges)


def test_the_declared_costs_are_those_of_the_network() -> None:
    trial = trial_of(SMALL)
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    network = MBQUANT.convert(
        build("small-cnn", (1, 28, 28), 10, seeded()), trial, torch.Generator()
    )
    body = network.get_submodule("body")
    layer_bits = DECLARED.layer_bits(layers, tied(4), trial.parameters, SMALL)
    values = [one for m in body.modules() for one in m.parameters(recurse=False)]
    num_weights = sum(layer.weight.numel() for layer in branch_layers(network))
    num_scalars = sum(one.numel() for one in values) - num_weights
    stored = 2 * num_weights + 32 * num_scalars

    assert size_bits(layers, layer_bits, Convention.BODY) == stored


def test_too_few_branches_are_named() -> None:
    with pytest.raises(ValueError, match="num_branches must be at least 4"):
        resolved(EVEN, {"num_branches": 3})


def test_copies_that_would_stay_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="branch_noise = 0 keeps branches 1 and 2 alike"):
        resolved(EVEN, {"branch_noise": 0.0})


@pytest.mark.parametrize(
    "given",
    [
        {"selection": "balanced"},
        {"selection": "random"},
        {"branch_start": "drawn"},
        {"range_index": "position"},
        {"range_std": "filter"},
    ],
)
def test_branches_that_are_told_apart_need_no_noise(given: dict[str, Value]) -> None:
    assert resolved(EVEN, {"branch_noise": 0.0, **given})


def test_a_number_in_quotes_is_told_as_such() -> None:
    with pytest.raises(ValueError, match=r"got '3' \(did you mean 3, without quotes\?\)"):
        resolved(EVEN, {"num_branches": "3"})


def test_unequal_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="equal bits"):
        resolved((Bits(weight=2, activation=4),))


def test_policies_with_the_same_branches_have_one_spelling() -> None:
    tables = [resolved(SMALL, {"selection": one}) for one in ("paper_code", "nested", "balanced")]

    assert tables[0] == tables[1] == tables[2]
    assert tables[0]["selection"] == "paper_code" and tables[0]["num_branches"] == 2


def test_policies_with_different_branches_stay_apart() -> None:
    tables = [resolved(EVEN, {"selection": one}) for one in ("paper_code", "nested", "balanced")]

    assert [one["selection"] for one in tables] == ["paper_code", "nested", "balanced"]


def test_distillation_parameters_without_effect_leave_no_trace() -> None:
    assert "distillation_temperature" not in resolved(EVEN, {"distillation_weight": 0.0})
    assert "distillation_weight" not in resolved((tied(4),))


def golden_logits() -> tuple[Tensor, Tensor, Tensor]:
    """z8, z2 and the labels of the golden loss."""
    z8 = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.5, 0.5]], requires_grad=True)
    z2 = torch.tensor([[1.0, 1.0, 0.0], [0.2, -0.3, 0.9]], requires_grad=True)
    return z8, z2, torch.tensor([0, 2])


def test_the_student_has_the_golden_loss_and_gradient_and_the_teacher_none() -> None:
    z8, z2, labels = golden_logits()
    loss = student_loss(z2, z8, labels, weight=0.5)
    torch.autograd.backward(loss)
    expected = [[-0.215187, 0.146285, 0.068901], [0.079937, -0.012145, -0.067792]]

    assert loss.item() == pytest.approx(0.888871, abs=1e-5)
    assert z2.grad is not None and torch.allclose(z2.grad, torch.tensor(expected), atol=1e-5)
    assert z8.grad is None


def test_the_ends_of_the_distillation_weight_are_the_hard_and_the_soft_loss() -> None:
    z8, z2, labels = golden_logits()

    assert student_loss(z2, z8, labels, weight=0.0).item() == pytest.approx(0.724274, abs=1e-5)
    assert student_loss(z2, z8, labels, weight=1.0).item() == pytest.approx(1.053469, abs=1e-5)


def test_the_largest_width_teaches_and_the_losses_add_up() -> None:
    z8, z2, labels = golden_logits()
    loss = widths_loss((z2, z8), labels, trial_of((tied(2), tied(8))))

    assert loss.item() == pytest.approx(0.653516 + 0.888871, abs=2e-5)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def batch() -> tuple[Tensor, Tensor]:
    """Images that a label makes brighter in its own corner."""
    generator = seeded()
    images = torch.randn(64, 1, 28, 28, generator=generator)
    labels = torch.arange(64) % 4
    for label in range(4):
        row, column = divmod(label, 2)
        images[labels == label, :, row * 14 : row * 14 + 14, column * 14 : column * 14 + 14] += 1
    return images, labels


def trained(trial: Trial, steps: int) -> tuple[nn.Module, list[float]]:
    """The network and its losses after some steps on one batch."""
    images, labels = batch()
    network = MBQUANT.convert(build("small-cnn", (1, 28, 28), 10, seeded()), trial, seeded())
    network.train()
    MBQUANT.calibrate(network, trial, images)
    groups = MBQUANT.parameter_groups(network, trial)
    optimizer = torch.optim.SGD([{"params": g.parameters} for g in groups], lr=0.01, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(MBQUANT.backward(network, trial, images, labels, seeded()).item())
        optimizer.step()
    return network, losses


def test_training_lowers_the_loss_and_serves_every_width() -> None:
    trial = trial_of(SMALL)
    network, losses = trained(trial, steps=12)
    network.eval()
    images, _ = batch()

    assert losses[-1] < 0.7 * losses[0]
    for bits in SMALL:
        MBQUANT.select(network, bits)
        assert network(images).shape == (64, 10)
        assert network(images).isfinite().all()


def test_the_same_seed_gives_the_same_losses() -> None:
    trial = trial_of((tied(2), tied(4)))

    assert trained(trial, steps=2)[1] == trained(trial, steps=2)[1]


def test_every_parameter_of_the_network_learns_in_one_group() -> None:
    trial = trial_of(SMALL)
    network, _ = trained(trial, steps=0)
    groups = MBQUANT.parameter_groups(network, trial)
    grouped = [id(one) for group in groups for one in group.parameters]
    learning = [id(one) for one in network.parameters() if one.requires_grad]

    assert sorted(grouped) == sorted(learning)
    assert {g.name: g.optimizer for g in groups} == {
        "weights": "sgd",
        "steps": "sgd",
        "ranges": "adam",
    }


def test_branches_start_from_the_given_weights_and_their_noise() -> None:
    network = build("small-cnn", (1, 28, 28), 10, seeded())
    start = network.get_submodule("body.conv1").get_parameter("weight").detach().clone()
    layer = branch_layers(MBQUANT.convert(network, trial_of(SMALL), seeded()))[0]
    distance = (layer.branches - start).std(dim=(1, 2, 3, 4)) / start.std()

    assert torch.allclose(distance, torch.full((2,), 0.05), rtol=0.1)
    assert not torch.equal(layer.branches[0], layer.branches[1])


def test_the_memory_format_of_the_network_does_not_matter() -> None:
    trial = trial_of(SMALL)
    network, _ = trained(trial, steps=0)
    network.eval()
    images, _ = batch()
    MBQUANT.select(network, tied(3))
    before = network(images)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
    after = network(images.to(memory_format=torch.channels_last))

    assert torch.allclose(before, after, atol=1e-5)


def test_a_checkpoint_restores_the_network() -> None:
    trial = trial_of(SMALL)
    network, _ = trained(trial, steps=1)
    other = MBQUANT.convert(build("small-cnn", (1, 28, 28), 10, seeded()), trial, seeded())
    other.load_state_dict(network.state_dict())
    images, _ = batch()
    for one in (network, other):
        one.eval()
        MBQUANT.select(one, tied(3))

    assert torch.equal(network(images), other(images))
