"""A method that ignores what is negative in the inputs of the body's layers says so."""

import pytest
import torch
from tests.bitsweep_suite.sweep_texts import DECLARATIONS
from tests.trainers_suite.trials import few, plain_network, trial_of
from torch import Tensor, nn

from bitsweep.checks import Problem
from bitsweep.checks.arms import check_methods
from bitsweep.sweep import Arm, Objective, Sweep, Task
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import method_of


def trained_on_both_signs(method: str) -> tuple[nn.Module, Tensor]:
    """A network whose first body layer is calibrated on inputs of both signs, and images."""
    declared = DECLARED[method]
    widths = (2, 4) if declared.serves == "all" else (4,)
    start = "0" * 64 if declared.needs_start else None
    trial = trial_of(method, *widths, start=start)
    data = few(train=64)
    images = normalise(data.train_images, data.mean, data.std)
    network = plain_network()
    network.set_submodule("stem.relu", nn.Identity())
    network = method_of(method).convert(network, trial, loop.stream(0, "convert"))
    network.train()
    method_of(method).calibrate(network, trial, images)
    method_of(method).select(network, trial.bits[-1])
    return network.eval(), images


@pytest.mark.parametrize("method", sorted(DECLARED))
def test_a_method_that_ignores_negative_inputs_declares_it(method: str) -> None:
    network, images = trained_on_both_signs(method)
    with torch.inference_mode():
        both = network(images)
        network.get_submodule("body.conv1").register_forward_pre_hook(
            lambda _module, inputs: (inputs[0].relu(), *inputs[1:])
        )
        positive = network(images)

    assert DECLARED[method].takes_signed_inputs == (not torch.equal(both, positive))


@pytest.mark.parametrize(
    "method", sorted(name for name, one in DECLARED.items() if not one.takes_signed_inputs)
)
def test_such_a_method_is_refused_on_a_net_whose_inputs_have_both_signs(method: str) -> None:
    sweep = Sweep(
        name="signed",
        question="",
        reproduces="",
        expects="",
        cost="",
        task=Task(data="cifar10", model="mobilenet-v2", epochs=1, bits=trial_of(method).bits),
        arms=(Arm(name="own", method=method),),
        objectives=(Objective(),),
    )
    with pytest.raises(Problem, match=f"{method} clips inputs at 0, and those of 17 layers"):
        check_methods(sweep, DECLARATIONS)
