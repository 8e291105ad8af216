"""What every method in the table keeps; one suite, each method a parameter."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.trainers_suite.trials import few, plain_network, training_of, trial_of, workspace_in
from torch import Tensor, nn

from bitsweep.bits import Bits
from bitsweep.space import Parameter, Parameters, Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.evaluate import layer_bits, measure_all
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import METHODS
from bitsweep_trainers.models.declared import MODELS

ALL = sorted(METHODS)
TRAINED = [name for name in ALL if DECLARED[name].trains]
WIDTHS = (2, 4)


class Recording(dict[str, Value]):
    """Parameters that remember which of them were read."""

    def __init__(self, values: Parameters) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Value:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:  # as dict has it
        self.read.add(name)
        return super().get(name, default)


def training(method: str, **parameters: Value) -> loop.Training:
    """A method at 4 bits, or at 2 and 4 where it serves several widths."""
    widths = WIDTHS if DECLARED[method].serves == "all" else (4,)
    start = "0" * 64 if DECLARED[method].needs_start else None
    return training_of(trial_of(method, *widths, start=start, parameters=parameters), few())


def outputs(made: loop.Training, bits: Bits) -> Tensor:
    """Logits of a few images at these bits, in evaluation."""
    data = made.data
    METHODS[made.trial.method].select(made.network, bits)
    made.network.eval()
    with torch.no_grad():
        logits: Tensor = made.network(normalise(data.test_images, data.mean, data.std))
    return logits


def state(network: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a network."""
    found = network.state_dict().items()
    return {name: one.clone() for name, one in found if isinstance(one, Tensor)}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(one, second[name]) for name, one in first.items()
    )


def other_value(parameter: Parameter) -> Value:
    """A value that is allowed and not the default."""
    if parameter.kind == "bool":
        return not parameter.default
    if parameter.kind == "choice":
        return next(one for one in parameter.choices if one != parameter.default)
    assert parameter.low is not None and parameter.high is not None
    step = 1 if parameter.kind == "int" else 0.5 * (parameter.high - parameter.low)
    value = float(parameter.default) + step
    return parameter.check(value if value <= parameter.high else parameter.low)


def test_every_method_is_declared_and_every_declared_one_exists() -> None:
    assert set(METHODS) == set(DECLARED)
    assert all(name == declared.name for name, declared in DECLARED.items())


@pytest.mark.parametrize("method", ALL)
def test_measurements_are_finite_and_carry_the_bits_of_every_layer(method: str) -> None:
    made = training(method)
    measured = measure_all(made.network, made.trial, made.data, is_last=True)
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)

    assert [one.allocation.layers for one in measured] == [(bits,) for bits in made.trial.bits]
    for one, bits in zip(measured, made.trial.bits, strict=True):
        assert one.layer_bits == layer_bits(made.trial, bits)
        assert len(one.layer_bits) == len(layers)


@pytest.mark.parametrize("method", ALL)
def test_switching_bits_and_back_loses_nothing_or_is_refused(method: str) -> None:
    made = training(method)
    own, other = made.trial.bits[-1], Bits(weight=2, activation=2)
    before, weights = outputs(made, own), state(made.network)
    try:
        assert not torch.equal(outputs(made, other), before)
    except ValueError:
        assert DECLARED[method].serves == "one"

    assert torch.equal(outputs(made, own), before)
    assert equal(state(made.network), weights)


@pytest.mark.parametrize("method", ALL)
def test_a_channel_of_weights_takes_at_most_two_to_the_bits_values(method: str) -> None:
    made = training(method)
    made.network.eval()
    for _, layer in quantized_layers(made.network.get_submodule("body")):
        with torch.no_grad():
            weights_OI = layer.weight_quantizer(layer.weight).flatten(1)

        assert all(len(torch.unique(one)) <= 2 ** made.trial.bits[0].weight for one in weights_OI)


@pytest.mark.parametrize("method", ALL)
def test_every_parameter_of_a_trial_is_read(method: str) -> None:
    plain = training(method).trial
    parameters = Recording(plain.parameters)
    made = training_of(replace(plain, parameters=parameters), few())
    data = made.data
    images = normalise(data.train_images[:8], data.mean, data.std)
    made.method.backward(made.network, made.trial, images, data.train_labels[:8], made.noise)
    layer_bits(made.trial, made.trial.bits[0])

    # `activation_bits` stands in the bits of the trial already.
    assert set(plain.parameters) - {"activation_bits"} <= parameters.read


class ReadTrial:
    """A trial that remembers which of its fields were read."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.read.add(name)
        return getattr(self.trial, name)


@pytest.mark.parametrize("method", ALL)
def test_a_method_declares_kernels_exactly_if_its_network_depends_on_the_backend(
    method: str,
) -> None:
    trial = ReadTrial(training(method).trial)
    METHODS[method].convert(plain_network(), cast(Trial, trial), loop.stream(0, "convert"))

    assert DECLARED[method].has_kernels == ("backend" in trial.read)


@pytest.mark.parametrize("method", TRAINED)
def test_equal_seeds_give_equal_networks_and_other_seeds_do_not(
    method: str, tmp_path: Path
) -> None:
    networks = []
    for index, seed in enumerate((0, 0, 1)):
        widths = WIDTHS if DECLARED[method].serves == "all" else (3,)
        trial = trial_of(method, *widths, seed=seed, epochs=1)
        made = training_of(trial, few(train=64, evaluated=10))
        list(loop.run(made, workspace_in(tmp_path / str(index))))
        networks.append(state(made.network))

    assert equal(networks[0], networks[1])
    assert not equal(networks[0], networks[2])


@pytest.mark.parametrize("method", TRAINED)
def test_the_loss_of_a_batch_falls_when_it_is_trained_on(method: str) -> None:
    made = training(method)
    data = made.data
    images = normalise(data.train_images[:64], data.mean, data.std)
    losses = []
    for _ in range(15):
        for optimizer in made.optimizers:
            optimizer.zero_grad()
        labels = data.train_labels[:64]
        loss = made.method.backward(made.network, made.trial, images, labels, made.noise)
        losses.append(float(loss))
        for optimizer in made.optimizers:
            optimizer.step()

    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("method", TRAINED)
def test_every_learnable_parameter_is_in_one_group_exactly(method: str) -> None:
    made = training(method)
    grouped = [id(one) for group in made.groups for one in group.parameters]
    learnable = {id(one) for one in made.network.parameters() if one.requires_grad}

    assert len(grouped) == len(set(grouped))
    assert learnable == set(grouped)


@pytest.mark.parametrize(
    ("method", "name"),
    [(method, one.name) for method in ALL for one in DECLARED[method].parameters],
)
def test_every_declared_parameter_may_leave_its_default(method: str, name: str) -> None:
    declared = DECLARED[method]
    parameter = next(one for one in declared.parameters if one.name == name)
    needed = {key: values[0] for key, values in parameter.when.items()}
    given = {**needed, name: other_value(parameter)}

    assert name in resolve(declared.parameters, given)
