"""Exports of networks whose inputs have learned lengths: the file rounds to the points kept."""

from pathlib import Path

import pytest
import torch
from tests.trainers_suite.path_trials import trained_on, write_vectors
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import nn

from bitsweep.errors import InputError
from bitsweep.exporter import ExportForm, SameLogits, load_exporter
from bitsweep.space import Value
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.export import trained_network
from bitsweep_trainers.lengths import learned_allocation
from bitsweep_trainers.packed import file
from bitsweep_trainers.packed.inputs import StepInput
from bitsweep_trainers.quantizers.cluster_promoting import (
    ClusterPromoting,
    Masks,
    Noise,
    quantizers,
)
from bitsweep_trainers.quantizers.grid import GridKind, Sharing

KEPT, DROPPED = 4.0, -4.0
SIGNED = "mobilenet-v2"  # its linear bottlenecks go into layers as they are
LEARNS: dict[str, Value] = {"task": "hetero", "learn_activations": True, "ste_act": "full"}


def keep(network: nn.Module, logits: list[float]) -> None:
    """Set the masks of all inputs."""
    for one in quantizers(network):
        if one.kind != "sym" and one.keep_logits is not None:
            one.keep_logits.data.copy_(torch.tensor(logits))


def with_lengths(folder: Path, logits: list[float], *, nest: bool) -> tuple[Trial, Path]:
    """A finished trial whose inputs keep what these logits say, and its checkpoint."""
    given: dict[str, Value] = {**LEARNS, "nest": nest}
    trial, checkpoint = trained_on(write_vectors(folder), folder, "cpq_dropbits", given)
    network = trained_network(trial, checkpoint)
    keep(network, logits)
    loop.save_checkpoint(network, trial, checkpoint)
    return trial, checkpoint


def compared(trial: Trial, checkpoint: Path, output: Path, form: ExportForm) -> SameLogits:
    """The trained network's outputs against the file's."""
    export = load_exporter(trial.trainer)
    (one,) = export(trial, checkpoint, output, form=form, bits=None).widths
    return one


@pytest.mark.parametrize("form", ["packed", "onnx"])
@pytest.mark.parametrize("logits", [[KEPT, DROPPED], [DROPPED, DROPPED]])
def test_inputs_without_holes_leave_with_their_points(
    logits: list[float], form: ExportForm, tmp_path: Path
) -> None:
    trial, checkpoint = with_lengths(tmp_path, logits, nest=True)
    one = compared(trial, checkpoint, tmp_path / "x", form)

    assert one.num_apart == 0


def test_inputs_with_holes_leave_with_their_points_in_a_packed_file_alone(tmp_path: Path) -> None:
    trial, checkpoint = with_lengths(tmp_path, [DROPPED, KEPT], nest=False)
    one = compared(trial, checkpoint, tmp_path / "x", "packed")

    assert (one.num_apart, one.largest_difference) == (0, 0)
    with pytest.raises(InputError, match=r"to one with holes: ONNX QDQ needs one") as refused:
        compared(trial, checkpoint, tmp_path / "y", "onnx")
    assert "\n" not in str(refused.value)


def test_signed_inputs_leave_with_the_points_below_their_first_bits(tmp_path: Path) -> None:
    trial = trial_of(
        *("cpq_dropbits", 4), model=SIGNED, parameters={**LEARNS, "nest": True}, learns_bits=True
    )
    training = training_of(trial, few(train=32, evaluated=20))
    network, data = training.network.eval(), training.data
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    keep(network, [KEPT, DROPPED])
    assert "full" in {one.kind for one in quantizers(network)}
    allocation = learned_allocation(network)
    file.save(network, trial, tmp_path / "x", mean=data.mean, std=data.std, allocation=allocation)
    packed, images = file.load(tmp_path / "x"), normalise(data.test_images, data.mean, data.std)

    with torch.inference_mode():
        assert torch.equal(packed(images), network(images))


def test_a_signed_grid_read_out_below_its_first_bits_is_the_symmetric_one() -> None:
    packed = quantizer([KEPT, DROPPED], kind="full", nest=True).pack_input((4,))

    assert isinstance(packed, StepInput)
    assert (packed.rounding(4).low, packed.rounding(4).high) == (-3, 3)


def quantizer(
    logits: list[float], *, kind: GridKind, nest: bool, sharing: Sharing = "bitwise"
) -> ClusterPromoting:
    """Of 4 bits, that learns its length, with these logits of its masks; in evaluation."""
    masks = Masks(
        sharing=sharing,
        nest=nest,
        kind="hard_concrete",
        keep_probability=0.9,
        tau=2 / 3,
        is_learned=True,
        learns_length=True,
    )
    noise = Noise(ratio=1 / 3, is_learned=True, is_tied=True)
    made = ClusterPromoting(bits=4, kind=kind, ste="max", noise=noise, masks=masks)
    assert made.keep_logits is not None
    made.keep_logits.data.copy_(torch.tensor(logits))
    made.initialise(torch.linspace(0 if kind == "unsigned" else -1, 1, 200), "max")
    return made.eval()


@pytest.mark.parametrize("nest", [True, False])
@pytest.mark.parametrize("kind", ["full", "unsigned"])
@pytest.mark.parametrize("first", [KEPT, DROPPED])
@pytest.mark.parametrize("second", [KEPT, DROPPED])
def test_a_packed_input_is_rounded_as_in_evaluation(
    first: float, second: float, kind: GridKind, nest: bool
) -> None:
    made = quantizer([first, second], kind=kind, nest=nest)
    x = torch.linspace(-1.5, 1.5, 1001)
    packed = made.pack_input((4,))

    assert packed is not None
    with torch.no_grad():
        assert torch.equal(packed.rounded(x, 4), made(x))


def test_packed_pairs_of_end_points_keep_their_holes() -> None:
    made = quantizer(
        [KEPT, DROPPED, KEPT, DROPPED, DROPPED, KEPT], kind="full", nest=False, sharing="endpoints"
    )
    packed = made.pack_input((4,))
    x = torch.linspace(-1.5, 1.5, 1001)

    assert made.kept_runs() == ((-8, -7), (-4, -4), (-2, 2), (4, 4), (7, 7))
    assert packed is not None
    with torch.no_grad():
        assert torch.equal(packed.rounded(x, 4), made(x))
