"""Two ranks over gloo against one, in float64: the real loop of each method that takes workers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import few, trial_of
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from bitsweep.errors import InputError
from bitsweep.execution.team import meeting_at
from bitsweep.trainer import Team, Workspace
from bitsweep.trial import Trial
from bitsweep_trainers import image, loop
from bitsweep_trainers.data.augment import Augmentation, normalise
from bitsweep_trainers.methods.declared import METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.parallel import SOLO, Group, joined
from bitsweep_trainers.sync_norm import synchronise

TRAINED = tuple(name for name, declared in METHODS.items() if declared.trains)
SHARED = tuple(name for name in TRAINED if "workers_per_trial" not in METHODS[name].refuses)
REFUSED = tuple(name for name in TRAINED if name not in SHARED)
# Their branches keep the statistics of all widths in modules of their own.
OWN_NORMS = ("mbquant",)
STEPS, BATCH = 2, 16
Found = dict[str, Tensor]


def trial_with(method: str) -> Trial:
    """Widths that share a network are trained together; a start is not needed for a gradient.

    A network without max pools: quantized features are sums of few values, so that pools have ties
    which the last bit of a float decides.
    """
    widths = (2, 4) if METHODS[method].serves == "all" else (3,)
    return trial_of(method, *widths, model="resnet8", batch_size=BATCH, epochs=1)


def trained(method: str, group: Group, *, is_synchronised: bool) -> Found:
    """Parameters and statistics after some steps of the loop, and the last step's gradients.

    Norms are synchronised, or they use the statistics that they have: then no sample depends on
    another one.
    """
    trial, chosen = trial_with(method), method_of(method)
    data = few(STEPS * BATCH)
    network = image.start_network(trial, Workspace(folder=Path()))
    network = chosen.convert(network, trial, loop.stream(0, "convert"))
    network.train()
    images = normalise(data.train_images[:64], data.mean, data.std)
    chosen.calibrate(network, trial, images)
    if not is_synchronised:
        for module in network.modules():
            if isinstance(getattr(module, "running_mean", None), Tensor):
                module.register_forward_pre_hook(_freeze)
    elif group.size > 1:
        synchronise(network, group.size)
    augmentation = Augmentation(pad=2, is_flipped=True)
    training = loop.prepare(
        network, chosen, trial=trial, data=data, augmentation=augmentation, group=group
    )
    loop.train_epoch(training, 1)
    weights = dict(network.named_parameters())
    found = {name: one.detach() for name, one in [*weights.items(), *network.named_buffers()]}
    gradients = {f"gradient of {name}": one.grad for name, one in weights.items()}
    return found | {name: one for name, one in gradients.items() if one is not None}


def _freeze(module: nn.Module, _inputs: Any) -> None:
    module.training = False


def _cases() -> list[tuple[str, bool]]:
    alone = [(method, False) for method in SHARED]
    return alone + [(method, True) for method in SHARED if method not in OWN_NORMS]


def rank(number: int, meeting: str, folder: str) -> None:
    """A process: every case together; the first one does each alone, too."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    found: dict[str, dict[tuple[str, bool], Found]] = {"alone": {}, "together": {}}
    if number == 0:
        for method, is_synchronised in _cases():
            one = trained(method, SOLO, is_synchronised=is_synchronised)
            found["alone"][method, is_synchronised] = one
    team = Team(rank=number, size=2, meeting=meeting)
    with joined(Workspace(folder=Path(folder), team=team), torch.device("cpu")) as group:
        for method, is_synchronised in _cases():
            one = trained(method, group, is_synchronised=is_synchronised)
            found["together"][method, is_synchronised] = one
    torch.save(found, Path(folder) / f"{number}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[tuple[str, bool], Found]]:
    """What one process found alone, and what each of two found together."""
    folder, meeting = tmp_path_factory.mktemp("ranks"), meeting_at("127.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))
        # One that fails ends the other, and its traceback is raised here.
        spawn(rank, args=(meeting, str(folder)), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(folder / f"{number}.pt") for number in range(2))
    return {"alone": first["alone"], "first": first["together"], "second": second["together"]}


@pytest.mark.real  # two processes, every method: half a minute
@pytest.mark.parametrize(("method", "is_synchronised"), _cases())
def test_two_ranks_take_the_steps_of_one(
    method: str, is_synchronised: bool, found: dict[str, dict[tuple[str, bool], Found]]
) -> None:
    case = method, is_synchronised
    alone, together = found["alone"][case], found["first"][case]
    same = found["second"][case]

    assert any(name.startswith("gradient of") and one.any() for name, one in alone.items())
    assert together.keys() == alone.keys() == same.keys()
    for name, wanted in alone.items():
        for one in (together[name], same[name]):
            scale = wanted.abs().max().item() if wanted.numel() else 0.0
            torch.testing.assert_close(one, wanted, rtol=0.0, atol=1e-9 * scale + 1e-14)


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_learns_outside_of_gradients_refuses_workers(method: str) -> None:
    trial = replace(trial_of(method), world_size=2)

    with pytest.raises(InputError, match=f"{method} cannot be trained with workers_per_trial = 2"):
        image.check(trial)


def test_every_trained_method_either_takes_workers_or_says_why_not() -> None:
    assert set(REFUSED) == {"abn", "adaqat", "alq", "bit_mixer"}
    assert set(SHARED) >= {"fp32", "lsq", "cpq_dropbits", "mbquant"}


@pytest.mark.parametrize("method", OWN_NORMS)
def test_norms_of_another_kind_refuse_to_be_synchronised(method: str) -> None:
    trial = trial_with(method)
    network = image.start_network(trial, Workspace(folder=Path()))
    network = method_of(method).convert(network, trial, loop.stream(0, "convert"))

    with pytest.raises(InputError, match=r"sync_batch_norm: .* is no plain batch norm"):
        synchronise(network, 2)
