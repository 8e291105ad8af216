"""A pinned list of allocations measured on trained super-networks, norms as they are and anew."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import Tensor

from bitsweep.bits import tied
from bitsweep.cost import Convention, bitops
from bitsweep.measurement import Measurement
from bitsweep.space import Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import METHODS
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.sampled import listed_allocations, norm_batches

METHODS_WITH_LISTS = ("abn", "bit_mixer")
both = pytest.mark.parametrize("method", METHODS_WITH_LISTS)


def listing(method: str, model: str = "resnet8-b", **parameters: Value) -> Trial:
    given: Mapping[str, Value] = {"measured_allocations": 4, "bn_images": 100, **parameters}
    return trial_of(
        method, 2, 4, model=model, epochs=1, parameters=given, splits=("validation", "test")
    )


def measured(trial: Trial, folder: Path) -> tuple[Measurement, ...]:
    """The last evaluation of a whole small training."""
    made = training_of(trial, few(train=160))
    *_, last = loop.run(made, workspace_in(folder))
    return last.measurements


@both
def test_a_trial_measures_its_list_on_each_split_with_and_without_new_statistics(
    method: str, tmp_path: Path
) -> None:
    found = [one for one in measured(listing(method), tmp_path) if one.allocator == "random"]
    layers = MODELS["resnet8-b"].layers((1, 28, 28), 10)

    assert len(found) == 4 * 2 * 2 == len({one.key for one in found})
    assert {one.protocol for one in found} == {"running", "re-estimated"}
    for one in found:
        widths = [bits.weight for bits in one.allocation.layers]
        spent = sum(layer.macs * bits**2 for layer, bits in zip(layers[1:-1], widths, strict=True))
        assert bitops(layers, one.layer_bits, Convention.BODY) == pytest.approx(spent)
    if method == "bit_mixer":  # one decision a layer
        listed = {tuple(bits.weight for bits in one.allocation.layers) for one in found}
        assert listed == set(listed_allocations([2, 4], 8, 4))


@both
def test_new_statistics_change_what_is_measured_and_nothing_that_stays(method: str) -> None:
    trial = listing(method)
    made = training_of(trial, few(train=160))
    before = {
        name: one.clone()
        for name, one in made.network.state_dict().items()
        if isinstance(one, Tensor)
    }
    found = METHODS[method].finish(made.network, trial, made.data)
    losses = {
        protocol: [one.sums["loss"] for one in found if one.protocol == protocol]
        for protocol in ("running", "re-estimated")
    }
    after = made.network.state_dict()

    assert all(
        one != other for one, other in zip(losses["running"], losses["re-estimated"], strict=True)
    )
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    assert found == METHODS[method].finish(made.network, trial, made.data)


@both
def test_without_norm_images_the_running_statistics_alone_are_measured(method: str) -> None:
    trial = listing(method, bn_images=0)
    made = training_of(trial, few(train=64))

    assert {one.protocol for one in METHODS[method].finish(made.network, trial, made.data)} == {
        "running"
    }


@both
def test_trials_that_measure_no_list_are_the_trials_of_before(method: str) -> None:
    plain = trial_of(method, 2, 4)
    idle = trial_of(method, 2, 4, parameters={"bn_images": 7000})
    single = trial_of(method, 4, parameters={"measured_allocations": 10})

    assert {"measured_allocations", "bn_images"}.isdisjoint(plain.parameters)
    assert idle == plain
    assert single == trial_of(method, 4)


@both
def test_statistics_of_a_handful_of_images_are_refused(method: str) -> None:
    declared = DECLARED[method]
    parameters = resolve(declared.parameters, {"measured_allocations": 1, "bn_images": 20})

    with pytest.raises(ValueError, match=r"bn_images is 0 .* or at least 100, got 20"):
        declared.check(parameters, (tied(2), tied(4)))


def test_a_list_is_pinned_reaches_both_ends_and_names_each_once() -> None:
    found = listed_allocations([2, 3, 4], 18, 100)
    means = sorted(sum(one) / 18 for one in found)

    assert found == listed_allocations([2, 3, 4], 18, 100)
    assert len(set(found)) == 100
    assert means[0] < 2.3 and means[-1] > 3.7
    assert found[:10] == listed_allocations([2, 3, 4], 18, 10)


def test_a_list_of_all_there_are_is_whole() -> None:
    assert len(listed_allocations([2, 3, 4], 2, 100)) == 9
    assert len(listed_allocations([2, 3, 4], 2, 8)) == 8


def test_statistics_come_from_so_many_images_of_the_training_set_or_all() -> None:
    data = few(train=160)

    assert sum(len(one) for one in norm_batches(data, 100)) == 100
    assert sum(len(one) for one in norm_batches(data, 5000)) == 160
