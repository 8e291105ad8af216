"""Bit-Mixer: transitional norms, drawn allocations, three stages, and its cost."""

import pytest
import torch
from tests.trainers_suite.trials import SMALL_MODELS, few, plain_network, training_of, trial_of
from torch import nn

from bitsweep.bits import tied
from bitsweep.space import Value, resolve
from bitsweep_trainers import loop
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.bit_mixer import Progress, Stages, draw_widths
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.transitions import TransitionalNorm, add_transitional_norms, allocate

WIDTHS = (2, 3, 4)


def made(**parameters: Value) -> loop.Training:
    return training_of(trial_of("bit_mixer", *WIDTHS, parameters=parameters), few())


def norms_of(network: nn.Module) -> dict[str, TransitionalNorm]:
    found = network.named_modules()
    return {path: one for path, one in found if isinstance(one, TransitionalNorm)}


def step(training: loop.Training) -> float:
    """The loss of one batch; its gradients are left, without an optimizer's step."""
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    training.network.zero_grad()
    loss = training.method.backward(
        training.network, training.trial, images, torch.arange(8), training.noise
    )
    return loss.item()


@pytest.mark.parametrize("model", SMALL_MODELS)
def test_there_are_as_many_norms_as_declared_behind_every_layer(model: str) -> None:
    network = plain_network(model)
    add_transitional_norms(network, WIDTHS)
    declared = layer_bits(trial_of("bit_mixer", *WIDTHS, model=model), tied(2))
    found = [len(one.norms) for one in norms_of(network).values()]

    assert found == [one.norm_copies for one in declared[:-1]]


def test_a_norm_belongs_to_the_bits_before_and_behind_it() -> None:
    network = made().network
    allocate(network, [2, 4])

    assert {path: one.current for path, one in norms_of(network).items()} == {
        "stem.bn": "8_2",
        "body.bn1": "2_4",
        "body.bn2": "4_8",
    }


def test_a_projection_runs_beside_the_block_and_feeds_the_next_one() -> None:
    network = plain_network("resnet8-b")
    add_transitional_norms(network, WIDTHS)
    norms = norms_of(network)
    ends = {path: (one.producer, one.consumer) for path, one in norms.items()}

    assert ends["body.stage2.0.bn2"] == (3, 5)
    assert ends["body.stage2.0.shortcut.bn"] == (4, 5)
    assert ends["body.stage3.0.bn2"] == (6, None)


def test_only_the_drawn_bits_learn() -> None:
    training = made(activation_share=0.0, uniform_share=0.0)
    before = {
        path: {name: buffer.clone() for name, buffer in one.named_buffers()}
        for path, one in norms_of(training.network).items()
    }
    step(training)
    for path, norm in norms_of(training.network).items():
        for name, one in norm.norms.items():
            is_current = name == norm.current
            kept = before[path][f"norms.{name}.running_mean"]
            assert isinstance(one, nn.BatchNorm2d) and one.running_mean is not None

            assert (one.weight.grad is not None) == is_current
            assert torch.equal(one.running_mean, kept) != is_current
    for _, layer in quantized_layers(training.network.get_submodule("body")):
        learned = [
            name for name, one in layer.input_quantizer.named_parameters() if one.grad is not None
        ]
        assert learned == [f"steps.{layer.input_quantizer.bits}.step"]


def test_one_draw_serves_all_layers_until_they_draw_their_own() -> None:
    draws = torch.Generator().manual_seed(0)
    uniform = [draw_widths(WIDTHS, 6, probability=0.0, generator=draws) for _ in range(50)]
    own = [draw_widths(WIDTHS, 6, probability=1.0, generator=draws) for _ in range(50)]

    assert all(len(set(one)) == 1 for one in uniform)
    assert {one[0] for one in uniform} == set(WIDTHS)
    assert sum(len(set(one)) > 1 for one in own) > 45


def test_the_stages_follow_one_another() -> None:
    stages = Stages(activation_share=0.25, uniform_share=0.25)
    shares = (0.0, 0.2, 0.25, 0.5, 0.75)

    assert [stages.quantizes_weights(one) for one in shares] == [False, False, True, True, True]
    assert [stages.own_bits_probability(one) for one in shares] == [0.0, 0.0, 0.0, 0.0, 0.5]


@pytest.mark.parametrize(("share", "is_quantized"), [(1.0, False), (0.0, True)])
def test_the_first_stage_leaves_the_weights_alone(share: float, is_quantized: bool) -> None:
    training = made(activation_share=share, uniform_share=0.0)
    step(training)
    layers = quantized_layers(training.network.get_submodule("body"))

    assert [layer.weight_quantizer.bits == 32 for _, layer in layers] == [not is_quantized] * 2
    assert all(layer.input_quantizer.bits in WIDTHS for _, layer in layers)


def test_progress_is_counted_and_kept_in_checkpoints() -> None:
    training = made()
    for _ in range(3):
        step(training)
    progress = training.network.get_submodule("progress")
    assert isinstance(progress, Progress)

    assert progress.num_steps == 2 * (5000 // 32)
    assert progress.share == pytest.approx(3 / progress.num_steps)
    assert int(training.network.state_dict()["progress.steps_done"]) == 3


def test_three_steps_of_layer_wise_bits_give_the_recorded_losses() -> None:
    training = made(activation_share=0.0, uniform_share=0.0)
    training.network.get_submodule("progress").num_steps = 4  # type: ignore[assignment]
    losses = []
    for _ in range(3):
        losses.append(step(training))
        for optimizer in training.optimizers:
            optimizer.step()

    assert losses == pytest.approx([2.345895, 2.316598, 2.267241], abs=1e-4), "raise numerics"


def test_stored_are_the_largest_codes_and_the_square_of_the_norms() -> None:
    first, second = layer_bits(trial_of("bit_mixer", *WIDTHS), tied(2))[1:3]

    assert (first.weight, first.stored_bits, first.scalars, first.norm_copies) == (2, 4, 4, 9)
    assert second.norm_copies == 3


def test_stages_that_do_not_fit_and_inert_parameters_are_told() -> None:
    declared = DECLARED["bit_mixer"]
    parameters = resolve(declared.parameters, {"activation_share": 0.7, "uniform_share": 0.7})

    with pytest.raises(ValueError, match="shares of one training"):
        declared.check(parameters, (tied(2), tied(4)))
    kept = declared.canonical(parameters, (tied(4),))
    assert {"truncation", "uniform_share"}.isdisjoint(kept)
