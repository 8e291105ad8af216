"""AdaBits: what belongs to a width, what all share, one step for all widths, and its cost."""

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import tied
from bitsweep.cost import Convention, size_bits, weight_size_bits
from bitsweep.space import Value, resolve
from bitsweep_trainers import loop
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.quantizers.nested import RescaledWeights
from bitsweep_trainers.switchable import (
    SwitchableClip,
    SwitchableNorm,
    joint_backward,
    select_switchable,
)

WIDTHS = (2, 3, 4)


def made(*widths: int, **parameters: Value) -> loop.Training:
    return training_of(trial_of("adabits", *(widths or WIDTHS), parameters=parameters), few())


def batch() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(8, 1, 28, 28, generator=draws), torch.arange(8)


def labels_loss(logits: Tensor, seen: object) -> Tensor:
    return cross_entropy(logits, batch()[1])


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """The gradients there are, by the parameter's name; they are cleared."""
    found = {
        name: one.grad.clone() for name, one in network.named_parameters() if one.grad is not None
    }
    network.zero_grad()
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_a_width_trains_its_own_norms_and_levels_and_no_others(width: int) -> None:
    network = made().network
    joint_backward(network, batch()[0], (tied(width),), loss=labels_loss)
    found = gradients(network)
    per_width = {
        name for name, _ in network.named_parameters() if ".norms." in name or ".alphas." in name
    }

    assert {name for name in per_width if name in found} == {
        name for name in per_width if f".{width}" in name
    }
    assert {"body.conv1.weight", "stem.conv.weight", "stem.bn.weight"} <= found.keys()


def test_one_step_adds_up_the_gradients_of_its_widths() -> None:
    network = made().network
    images, _ = batch()
    widths = tuple(map(tied, WIDTHS))
    total = joint_backward(network, images, widths, loss=labels_loss)
    together = gradients(network)
    sums: dict[str, Tensor] = {}
    losses = []
    for bits in widths:
        select_switchable(network, bits)
        loss = cross_entropy(network(images), batch()[1])
        losses.append(loss.item())
        torch.autograd.backward(loss)
        for name, one in gradients(network).items():
            sums[name] = sums.get(name, torch.zeros_like(one)) + one

    assert together.keys() == sums.keys()
    assert float(total) == pytest.approx(sum(losses), rel=1e-5)
    for name, one in sums.items():
        assert torch.allclose(together[name], one, rtol=1e-3, atol=1e-5), name


def test_statistics_of_a_width_are_untouched_by_the_others() -> None:
    network = made().network
    norm = network.get_submodule("body.bn1")
    assert isinstance(norm, SwitchableNorm)
    before = {name: one.clone() for name, one in norm.norms["2"].named_buffers()}
    joint_backward(network, batch()[0], (tied(3), tied(4)), loss=labels_loss)

    assert all(torch.equal(one, before[n]) for n, one in norm.norms["2"].named_buffers())


def test_clipping_levels_follow_the_calibrated_gradient() -> None:
    clip = SwitchableClip([2], is_shared=False)
    clip.alphas["2"].data.fill_(2.0)
    # The golden example of CG-PACT with 1.001 for 1.0, which is a tie.
    values = torch.tensor([-0.5, 0.4, 1.001, 1.9, 2.5, 3.0], requires_grad=True)
    clip(values).sum().backward()
    assert values.grad is not None and clip.alphas["2"].grad is not None

    assert values.grad.tolist() == [0, 1, 1, 1, 0, 0]
    assert float(clip.alphas["2"].grad) == pytest.approx(2.35 - 0.0005, abs=1e-5)


def test_each_width_has_its_level_unless_all_share_one() -> None:
    counts = {}
    for clipping in ("switchable", "shared"):
        network = made(clipping=clipping).network
        counts[clipping] = sum("alphas" in name for name, _ in network.named_parameters())

    assert counts == {"switchable": 6, "shared": 2}


@pytest.mark.parametrize(("last_layer", "expected"), [("rescaled", True), ("lsq", False)])
def test_the_last_layer_is_rescaled_where_asked_for(last_layer: str, expected: bool) -> None:
    layer = dict(quantized_layers(made(last_layer=last_layer).network))["head.linear"]

    assert isinstance(layer.weight_quantizer, RescaledWeights) == expected


def test_levels_decay_at_their_own_rate_and_norms_do_not() -> None:
    groups = made(learning_rate=0.02, clip_learning_rate_ratio=0.5, clip_decay=0.001).groups
    rates = {one.name: one.learning_rate for one in groups}
    decays = {one.name: one.weight_decay for one in groups}

    assert rates["clips"] == pytest.approx(0.01)
    assert (decays["clips"], decays["norms"], decays["steps"]) == (0.001, 0.0, 0.0)


def test_stored_are_the_largest_codes_and_a_norm_per_width() -> None:
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    body = sum(layer.weights for layer in layers if layer.place == "body")
    norms = sum(layer.norm_channels for layer in layers if layer.place == "body")
    two = layer_bits(trial_of("adabits", *WIDTHS), tied(2))

    assert weight_size_bits(layers, two, Convention.BODY) == 4 * body
    extras = 32 * (3 * 2 + 3 * 2 * norms)  # three levels for each of two layers; scale and shift
    assert size_bits(layers, two, Convention.BODY) == 4 * body + extras


def test_one_width_declares_no_clipping_and_unequal_bits_are_refused() -> None:
    declared = DECLARED["adabits"]
    parameters = resolve(declared.parameters, {})

    assert "clipping" not in declared.canonical(parameters, (tied(4),))
    with pytest.raises(ValueError, match="equal bits"):
        declared.check(parameters, (tied(1),))


@pytest.mark.parametrize("model", ["resnet8-b", "lenet5"])
def test_other_models_train_a_step(model: str) -> None:
    training = training_of(trial_of("adabits", *WIDTHS, model=model), few(train=16))
    images, labels = batch()
    loss = training.method.backward(
        training.network, training.trial, images, labels, training.noise
    )

    assert torch.isfinite(loss)
