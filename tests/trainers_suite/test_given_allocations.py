"""Trials that were given bits per layer, for every method that declares it can run them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in

from bitsweep.bits import Bits
from bitsweep.errors import InputError
from bitsweep.space import Value
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.evaluate import layer_bits, measure_all
from bitsweep_trainers.image import check, train
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import METHODS

TAKING = sorted(name for name, one in DECLARED.items() if one.takes_allocations)
MIXED = "w=[2,4] a=[3,8]"
# By default its inputs have three grids each.
ONE_GRID: dict[str, dict[str, Value]] = {"splitquant": {"split_activations": False}}


def given(method: str, label: str, *widths: int, epochs: int = 1) -> Trial:
    declared = DECLARED[method]
    return trial_of(
        method,
        *(widths or (4,)),
        allocation=label,
        parameters=ONE_GRID.get(method, {}),
        epochs=epochs if declared.trains else 0,
        start="0" * 64 if declared.needs_start else None,
    )


def test_the_methods_of_one_network_per_width_take_allocations() -> None:
    assert TAKING == [
        "cpq_dropbits",
        "dorefa",
        "lsq",
        "lsq_plus",
        "pact",
        "ptq",
        "splitquant",
    ]


@pytest.mark.parametrize("method", TAKING)
def test_each_layer_has_the_values_of_its_own_bits(method: str) -> None:
    made = training_of(given(method, MIXED), few())
    made.network.eval()
    counts = []
    for _, layer in quantized_layers(made.network.get_submodule("body")):
        with torch.no_grad():
            weights = layer.weight_quantizer(layer.weight)
        counts.append(max(len(torch.unique(one)) for one in weights.flatten(1)))
    # Of the parts of a split layer each has a grid of its own.
    first, last = counts[: len(counts) // 2], counts[len(counts) // 2 :]

    assert all(1 < one <= 2**2 for one in first)
    assert all(one <= 2**4 for one in last) and max(last) > 2**2


@pytest.mark.parametrize("method", TAKING)
def test_inputs_are_rounded_to_the_bits_of_their_layer(method: str) -> None:
    made = training_of(given(method, MIXED), few())
    seen: list[int] = []
    handles = [
        layer.input_quantizer.register_forward_hook(
            lambda module, inputs, output: seen.append(len(torch.unique(output)))
        )
        for _, layer in quantized_layers(made.network.get_submodule("body"))
    ]
    made.network.eval()
    data = made.data
    with torch.no_grad():
        made.network(normalise(data.test_images, data.mean, data.std))
    for handle in handles:
        handle.remove()
    half = len(seen) // 2

    assert all(1 < one <= 2**3 for one in seen[:half])
    assert all(2**3 < one <= 2**8 for one in seen[half:])


@pytest.mark.parametrize("method", TAKING)
def test_what_is_measured_is_what_was_given_and_costs_what_its_layers_cost(
    method: str, tmp_path: Path
) -> None:
    trial = given(method, MIXED)
    made = training_of(trial, few())
    if DECLARED[method].trains:
        (evaluation,) = loop.run(made, workspace_in(tmp_path))
        measured = evaluation.measurements
    else:
        measured = measure_all(made.network, trial, made.data, is_last=True)
    (one,) = measured
    first = layer_bits(trial, Bits(weight=2, activation=3))
    second = layer_bits(trial, Bits(weight=4, activation=8))

    assert (one.allocation.label, one.allocator, one.lambda_) == (MIXED, "fixed", None)
    assert one.layer_bits == (first[0], first[1], second[2], first[3])


@pytest.mark.parametrize("method", TAKING)
def test_equal_bits_in_all_layers_are_the_network_of_that_width(
    method: str, tmp_path: Path
) -> None:
    numbers = []
    for index, label in enumerate((None, "w3a3", "w=[3,3] a=[3,3]")):
        trial = given(method, "w3a3", 3) if label is None else given(method, label, 3)
        if label is None:
            trial = replace(trial, allocation=None)
        made = training_of(trial, few())
        if DECLARED[method].trains:
            list(loop.run(made, workspace_in(tmp_path / str(index))))
        (one,) = measure_all(made.network, trial, made.data, is_last=True)
        numbers.append((one.correct, one.sums, one.layer_bits))

    assert numbers[0] == numbers[1] == numbers[2]


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(TAKING)))
def test_other_methods_refuse_bits_per_layer(method: str) -> None:
    trial = given(method, MIXED)

    with pytest.raises(InputError, match=f"{method} cannot run given bits per layer"):
        check(trial)


def test_an_allocation_of_another_body_is_refused(tmp_path: Path) -> None:
    trial = given("lsq", "w=[2,3,4] a=[4,4,4]")
    workspace = Workspace(folder=tmp_path)

    with pytest.raises(ValueError, match="not for a body of 2 layers"):
        next(train(trial, workspace))
