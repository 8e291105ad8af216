"""Hot swap: a network of integer codes is the trained one at every width, and stays it."""

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import Tensor, nn

from bitsweep.bits import tied
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.hot_swap import CodedWeights, keep_codes
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.switchable import select_switchable

WIDTHS = (2, 3, 4, 8)


def logits_at(network: nn.Module, images: Tensor, bits: int) -> Tensor:
    select_switchable(network, tied(bits))
    network.eval()
    with torch.no_grad():
        found: Tensor = network(images)
    return found


@pytest.mark.parametrize("grid", ["centred", "symmetric", "released"])
@pytest.mark.parametrize("model", ["small-cnn", "resnet8-b"])
def test_a_network_of_codes_is_the_trained_one_bit_for_bit_at_every_width(
    grid: str, model: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trial = trial_of("adabits", *WIDTHS, model=model, epochs=1, parameters={"grid": grid})
    made = training_of(trial, few(train=64))
    if model == "small-cnn":
        list(loop.run(made, workspace_in(tmp_path_factory.mktemp("run"))))
    network, data = made.network, made.data
    images = normalise(data.test_images[:16], data.mean, data.std)
    trained = {bits: logits_at(network, images, bits) for bits in WIDTHS}
    keep_codes(network, top_bits=8)

    # Up and down and up again: no order of switching leaves anything behind.
    for bits in (8, 2, 4, 3, 2, 8, 3):
        assert torch.equal(logits_at(network, images, bits), trained[bits])
    body = quantized_layers(network.get_submodule("body"))
    assert all(float(layer.weight.abs().max()) == 0 for _, layer in body)
    assert all(isinstance(layer.weight_quantizer, CodedWeights) for _, layer in body)


def test_codes_take_a_byte_and_survive_a_checkpoint() -> None:
    made = training_of(trial_of("adabits", 2, 4), few())
    other = training_of(trial_of("adabits", 2, 4, seed=1), few())
    for one in (made, other):
        keep_codes(one.network, top_bits=4)
    other.network.load_state_dict(made.network.state_dict())
    images = normalise(made.data.test_images[:8], made.data.mean, made.data.std)
    codes = [one.codes for one in made.network.modules() if isinstance(one, CodedWeights)]

    assert all(one.dtype == torch.uint8 and int(one.max()) < 16 for one in codes)
    for bits in (2, 4):
        assert torch.equal(
            logits_at(made.network, images, bits), logits_at(other.network, images, bits)
        )


def test_codes_have_no_more_bits_than_were_kept() -> None:
    made = training_of(trial_of("adabits", 2, 4), few())
    keep_codes(made.network, top_bits=2)

    with pytest.raises(ValueError, match="codes of 2 bits cannot run at 4 bits"):
        logits_at(made.network, made.data.test_images[:2].float(), 4)
