"""Networks: their declared layers against forward hooks, their parts, their weights."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from bitsweep.cost import Layer
from bitsweep.declaration import Shape
from bitsweep.errors import UnknownName
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.models.build import BUILDERS, build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.models.network import Network
from bitsweep_trainers.models.resnet import BasicBlock, PadShortcut

SHAPES: dict[str, list[Shape]] = {
    "images": sorted({data.shape for data in DATA_SETS.values()}),
    "series": [(1, 187), (2, 64)],
    "vectors": [(64,), (30,)],
}
CASES = [(name, shape) for name in sorted(MODELS) for shape in SHAPES[MODELS[name].data_kind]]
COMPUTING = nn.Conv2d | nn.Conv1d | nn.Linear


def shape_for(name: str) -> Shape:
    """A shape that the model takes."""
    return SHAPES[MODELS[name].data_kind][0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layers_seen_by_hooks(network: Network, shape: Shape) -> list[tuple[str, int, int, int, int]]:
    """(name, MACs, weights, biases, outputs) of each layer, in order of execution."""
    seen = []

    def count(module: COMPUTING, given: tuple[Tensor], output: Tensor) -> None:
        per_output = module.weight[0].numel()
        biases = 0 if module.bias is None else module.bias.numel()
        macs = per_output * output[0].numel()
        seen.append((names[module], macs, module.weight.numel(), biases, output.shape[1]))

    names = {
        module: name for name, module in network.named_modules() if isinstance(module, COMPUTING)
    }
    for module in names:
        module.register_forward_hook(count)
    network.eval()(torch.zeros(1, *shape))
    return seen


def declared_layers(
    layers: tuple[Layer, ...],
) -> list[tuple[str, int, int, int, int]]:
    return [(one.name, one.macs, one.weights, one.biases, one.out_channels) for one in layers]


def test_every_declared_model_can_be_built_and_no_other() -> None:
    assert sorted(BUILDERS) == sorted(MODELS)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_declared_layers_are_those_that_run(name: str, shape: Shape, classes: int) -> None:
    seen = layers_seen_by_hooks(build(name, shape, classes, generator()), shape)

    assert declared_layers(MODELS[name].layers(shape, classes)) == seen


@pytest.mark.parametrize("name", sorted(MODELS))
def test_declared_channels_and_kinds_are_those_of_the_modules(name: str) -> None:
    network = build(name, shape_for(name), 10, generator())
    for layer in MODELS[name].layers(shape_for(name), 10):
        module = network.get_submodule(layer.name)
        if isinstance(module, nn.Conv2d | nn.Conv1d):
            kind = "conv" if isinstance(module, nn.Conv2d) else "conv1d"
            kind = kind if module.groups == 1 else "depthwise"
            facts = (kind, module.in_channels, module.out_channels, module.groups)
        else:
            assert isinstance(module, nn.Linear)
            facts = ("linear", module.in_features, module.out_features, 1)

        assert facts == (layer.kind, layer.in_channels, layer.out_channels, layer.groups)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_declared_weights_biases_and_norms_are_all_parameters(name: str) -> None:
    network = build(name, shape_for(name), 10, generator())
    layers = MODELS[name].layers(shape_for(name), 10)

    assert sum(parameter.numel() for parameter in network.parameters()) == sum(
        layer.weights + layer.biases + 2 * layer.norm_channels for layer in layers
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_first_layer_lies_in_the_stem_and_the_last_in_the_head(name: str) -> None:
    places = {
        layer.name.split(".")[0]: layer.place for layer in MODELS[name].layers(shape_for(name), 10)
    }

    assert places == {"stem": "first", "body": "body", "head": "last"}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_no_convolution_has_a_bias_and_no_relu_works_in_place(name: str) -> None:
    for module in build(name, shape_for(name), 10, generator()).modules():
        assert not (isinstance(module, nn.Conv2d | nn.Conv1d) and module.bias is not None)
        assert not (isinstance(module, nn.ReLU | nn.ReLU6) and module.inplace)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    one = build(name, shape_for(name), 10, generator(1)).state_dict()
    same = build(name, shape_for(name), 10, generator(1)).state_dict()
    other = build(name, shape_for(name), 10, generator(2)).state_dict()

    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], same[key]) for key in one)
    first = next(iter(one))
    assert not torch.equal(one[first], other[first])


def test_convolutions_start_kaiming_normal_over_the_fan_out_and_norms_as_identity() -> None:
    network = build("resnet20", (3, 32, 32), 10, generator())
    weight = network.get_submodule("body.stage3.2.conv2").weight
    norm = network.get_submodule("body.stage3.2.bn2")
    assert isinstance(weight, Tensor)
    assert isinstance(norm, nn.BatchNorm2d)

    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    assert norm.running_mean is not None
    assert norm.running_mean.eq(0).all()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_parameter_receives_a_gradient(name: str) -> None:
    shape = {"images": (3, 32, 32)}.get(MODELS[name].data_kind, shape_for(name))
    network = build(name, shape, 10, generator())
    samples = torch.randn(4, *shape, generator=generator())
    loss = nn.functional.cross_entropy(network(samples), torch.arange(4))
    gradients = torch.autograd.grad(loss, list(network.parameters()))

    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_resnet20_has_the_published_number_of_parameters() -> None:
    network = build("resnet20", (3, 32, 32), 10, generator())

    assert sum(parameter.numel() for parameter in network.parameters()) == 269_722


def test_small_cnn_has_about_24_thousand_parameters() -> None:
    network = build("small-cnn", (1, 28, 28), 10, generator())

    assert sum(parameter.numel() for parameter in network.parameters()) == 24_058


def test_a_padded_shortcut_keeps_every_second_pixel_between_zero_channels() -> None:
    features = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    padded = PadShortcut(in_channels=2, out_channels=5, stride=2)(features)

    assert padded.shape == (1, 5, 2, 2)
    assert torch.equal(padded[:, 1:3], features[:, :, ::2, ::2])
    assert padded[:, [0, 3, 4]].eq(0).all()


def test_a_block_of_zero_residual_is_the_relu_of_its_shortcut() -> None:
    block = BasicBlock(4, 4, stride=1, shortcut=nn.Identity())
    nn.init.zeros_(block.conv2.weight)
    features = torch.randn(2, 4, 6, 6, generator=generator())

    assert torch.equal(block(features), features.relu())


def test_an_unknown_model_names_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'small-cnn'"):
        build("small_cnn", (3, 32, 32), 10, generator())


def test_declarations_of_models_and_data_load_no_torch_and_no_numpy() -> None:
    program = (
        "import sys, bitsweep_trainers.models.declared, bitsweep_trainers.data.declared;"
        "print([one for one in ('torch', 'numpy') if one in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert printed.strip() == "[]"
