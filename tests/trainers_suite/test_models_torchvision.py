"""torchvision's networks: their published sizes, their own numbers, and weights from a file."""

from pathlib import Path

import pytest
import torch
from torch import nn

from bitsweep.errors import InputError
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.models.from_torchvision import torchvision_models
from bitsweep_trainers.models.pretrained import load_weights

IMAGENET = (3, 224, 224)
# Parameters as torchvision prints them; MACs of convolutions and the last layer, as fvcore counts.
PUBLISHED = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "mobilenet-v2": (3_504_872, 300_774_272),
}
THEIRS = {"mobilenet-v2": "mobilenet_v2"}


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def their_network(name: str, classes: int = 10) -> nn.Module:
    """torchvision's own network with statistics that are not those of the start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network: nn.Module = getattr(torchvision_models(), THEIRS.get(name, name))(
            num_classes=classes
        )
        network.train()(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    layers = MODELS[name].layers(IMAGENET, 1000)
    parameters = sum(one.weights + one.biases + 2 * one.norm_channels for one in layers)

    assert (parameters, sum(one.macs for one in layers)) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_of_torchvision_give_torchvisions_answers(name: str, tmp_path: Path) -> None:
    theirs = their_network(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build(name, (3, 64, 64), 10, drawn())
    load_weights(ours, tmp_path / "weights.pth", model=name)
    images = torch.randn(2, 3, 64, 64, generator=drawn(1))

    with torch.no_grad():
        assert torch.allclose(ours.eval()(images), theirs(images), atol=1e-5)


def test_a_last_layer_of_other_classes_stays_as_drawn(tmp_path: Path) -> None:
    theirs = their_network("resnet18", classes=1000)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "weights.pth")
    ours = build("resnet18", (3, 64, 64), 10, drawn())
    before = ours.head.linear.weight.clone()  # type: ignore[union-attr,operator]
    load_weights(ours, tmp_path / "weights.pth", model="resnet18")

    assert torch.equal(ours.head.linear.weight, before)  # type: ignore[union-attr,arg-type]
    stem = ours.get_submodule("stem.conv").weight
    assert torch.equal(stem, theirs.conv1.weight)  # type: ignore[arg-type,union-attr]


@pytest.mark.parametrize("content", ["other model", "no checkpoint", "none"])
def test_weights_that_do_not_fit_are_refused_by_file_and_model(
    content: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if content == "other model":
        torch.save(their_network("resnet34").state_dict(), path)
    elif content == "no checkpoint":
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"weights\.pth.*") as caught:
        load_weights(build("resnet18", (3, 64, 64), 10, drawn()), path, model="resnet18")

    assert "\n" not in str(caught.value)
    if content == "other model":
        assert "of another model than resnet18" in str(caught.value)


def test_a_file_that_is_no_checkpoint_is_one_line_without_torchs_advice(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"garbage")

    with pytest.raises(
        InputError, match=r"weights\.pth: .*expected a dictionary of tensors"
    ) as got:
        load_weights(build("resnet18", (3, 64, 64), 10, drawn()), path, model="resnet18")
    assert "weights_only" not in str(got.value) and "\n" not in str(got.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_file_and_name(
    number: float, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    ours = build("resnet18", (3, 64, 64), 10, drawn())
    state = ours.state_dict()
    state["stem.conv.weight"][0, 0, 0, 0] = number
    torch.save(state, path)

    with pytest.raises(InputError, match=r"weights\.pth: stem\.conv\.weight .* not finite") as got:
        load_weights(ours, path, model="resnet18")
    assert "\n" not in str(got.value)
