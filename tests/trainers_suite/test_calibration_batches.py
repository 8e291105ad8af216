"""Every method: calibration where one image is left over, and what its network keeps."""

import pytest
import torch
from tests.trainers_suite.trials import few, plain_network, training_of, trial_of

from bitsweep.bits import tied
from bitsweep_trainers.batches import cut
from bitsweep_trainers.methods.declared import METHODS as DECLARED


@pytest.mark.parametrize("method", sorted(DECLARED))
def test_a_method_calibrates_where_one_image_is_left_over(method: str) -> None:
    declared = DECLARED[method]
    widths = (2, 4) if declared.serves == "all" else (4,)
    start = "0" * 64 if declared.needs_start else None
    trial = trial_of(method, *widths, model="lenet5", batch_size=32, start=start)
    training = training_of(trial, few(train=129))  # 4 batches and one image

    assert all(bool(one.isfinite().all()) for one in training.network.parameters())


@pytest.mark.parametrize("size", [31, 33, 93, 341])
def test_the_last_part_of_one_joins_the_part_before(size: int) -> None:
    images = torch.arange(1024)
    parts = cut(images, size, trial=trial_of("mbquant", 2, 4, model="lenet5"))

    assert [len(one) for one in parts[:-1]] == [size] * (1024 // size - 1)
    assert len(parts[-1]) == size + 1
    assert torch.equal(torch.cat(list(parts)), images)


@pytest.mark.parametrize(("model", "size"), [("small-cnn", 33), ("lenet5", 32), ("lenet5", 4096)])
def test_other_parts_are_those_of_a_split(model: str, size: int) -> None:
    images = torch.arange(1024)
    parts = cut(images, size, trial=trial_of("mbquant", 2, 4, model=model))

    assert [len(one) for one in parts] == [len(one) for one in torch.split(images, size)]


@pytest.mark.parametrize("method", sorted(name for name, one in DECLARED.items() if one.trains))
def test_a_method_declares_whether_a_training_can_begin_with_its_network(method: str) -> None:
    start = "0" * 64 if DECLARED[method].needs_start else None
    learns = DECLARED[method].learns_bits({})
    network = training_of(trial_of(method, 4, start=start, learns_bits=learns), few(64)).network

    plain = set(plain_network().state_dict())
    assert DECLARED[method].keeps_plain({}, (tied(4),)) == (plain <= set(network.state_dict()))


@pytest.mark.parametrize("norms", ["own", "shared"])
def test_abn_leaves_a_plain_network_where_its_widths_share_their_norms(norms: str) -> None:
    trial = trial_of("abn", 2, 4, parameters={"norms": norms})
    network = training_of(trial, few(64)).network

    plain = set(plain_network().state_dict())
    found = DECLARED["abn"].keeps_plain(trial.parameters, trial.bits)
    assert found == (plain <= set(network.state_dict()))
