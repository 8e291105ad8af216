"""Networks of branches against a naive loop over widths and branches, in double precision."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.branch_network import (
    active_rows,
    branch_layers,
    branch_network,
    branch_norms,
    estimate_norms,
    logits_row_by_row,
)
from bitsweep_trainers.branch_norm import BranchNorm, BranchShortcut
from bitsweep_trainers.branch_rows import ActiveRows, BranchMean, FanOut
from bitsweep_trainers.branches import BranchLayer, BranchPlan
from bitsweep_trainers.methods.declared.branch_table import branch_table
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.models.residual import residual_of
from bitsweep_trainers.quantizers.interval import EAGER, interval_codes, weight_values

CLASSES = 5
SHAPES = {"small-cnn": (1, 12, 12), "lenet5": (1, 16, 16), "resnet50": (3, 64, 64)}
Use = tuple[int, int, bool]  # bits, branch, is_narrow


def images_of(shape: Sequence[int], count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def branched(
    model: str, bits: tuple[int, ...], *, policy: str = "nested", noise: float = 0.05
) -> tuple[nn.Module, Tensor]:
    """A calibrated network of branches in training mode, and images."""
    shape = SHAPES.get(model, (3, 8, 8))
    generator = torch.Generator().manual_seed(0)
    network = build(model, shape, CLASSES, generator).double()
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # no ReLU stands at its kink
            nn.init.normal_(module.bias, std=0.2, generator=generator)
        elif isinstance(module, nn.MaxPool2d):  # equal codes tie: which one wins is rounding
            network.set_submodule(path, nn.AvgPool2d(2))
    num_branches = -(-max(bits) // 2)
    plan = BranchPlan(
        table=branch_table(bits, num_branches, policy),
        num_branches=num_branches,
        noise=noise,
        range_factor=3.0,
    )
    branch_network(network, MODELS[model].layers(shape, CLASSES), plan, generator)
    network.double().train()
    images = images_of(shape)
    with torch.no_grad():
        active_rows(network).is_calibrating = True
        network(images)
        active_rows(network).is_calibrating = False
    return network, images


def naive_codes(x: Tensor, lower: Tensor, upper: Tensor, levels: int) -> Tensor:
    """code / levels by autograd alone: clamp, then rounding whose gradient passes."""
    t = ((x - lower) / (upper - lower)).clamp(0, 1)
    return t + ((t * levels).round() / levels - t).detach()


def naive(module: nn.Module, x: Tensor, use: Use, rows: ActiveRows) -> Tensor:
    """What one branch at one width computes from x (N, C, ...), channels of this branch alone."""
    bits, branch, is_narrow = use
    row = rows.narrow.index((bits, branch)) if is_narrow else rows.full.index((bits, branch))
    block = residual_of(module)
    if block is not None:
        residual = x
        for index, layer in enumerate(block.layers, start=1):
            residual = naive(module.get_submodule(layer), residual, use, rows)
            residual = naive(module.get_submodule(f"bn{index}"), residual, use, rows)
            residual = residual if index == len(block.layers) else residual.relu()
        return (residual + naive(block.shortcut, x, use, rows)).relu()
    if isinstance(module, nn.Sequential):
        for child in module:
            x = naive(child, x, use, rows)
        return x
    if isinstance(module, BranchLayer):
        index = row + is_narrow * len(rows.full)
        x = naive_codes(x, module.input_lower[index], module.input_upper[index], 2**bits - 1)
        ends = module.weight_lower[branch], module.weight_upper[branch]
        weight = 2 * naive_codes(module.branches[branch], ends[0], ends[1], 3) - 1
        if is_narrow:
            assert module.narrow is not None
            weight = weight[: module.narrow.out_channels, : module.narrow.in_channels]
        if module.geometry is None:
            return functional.linear(x, weight)
        return functional.conv2d(x, weight, None, *module.geometry)
    if isinstance(module, BranchNorm):
        start = len(rows.full) * module.channels if is_narrow else 0
        count = module.narrow_channels if is_narrow else module.channels
        here = slice(start + row * count, start + (row + 1) * count)
        return functional.batch_norm(
            x, None, None, module.weight[here], module.bias[here], training=True
        )
    if isinstance(module, BranchShortcut):
        given, wanted = module.narrow_channels if is_narrow else module.channels
        spaces = x.new_zeros(len(x), module.before + max(given, wanted), *x.shape[2:])
        spaces[:, module.before : module.before + given] = x
        return spaces[:, :wanted, :: module.stride, :: module.stride]
    if isinstance(module, FanOut | BranchMean):
        return x
    applied: Tensor = module(x)
    return applied


def naive_logits(network: nn.Module, images: Tensor, bits: int) -> Tensor:
    """The network at one width, branch after branch."""
    rows = active_rows(network)
    stem, body, head = (network.get_submodule(name) for name in ("stem", "body", "head"))
    uses = [(bits, k, False) for b, k in rows.full if b == bits]
    uses += [(bits, k, True) for b, k in rows.narrow if b == bits]
    outputs = [naive(body, stem(images), use, rows) for use in uses]
    logits: Tensor = head(torch.stack(outputs).mean(0))
    return logits


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """The gradients by name, and none left behind."""
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


def squares(logits: Tensor) -> Tensor:
    """A loss that reaches every logit."""
    return (logits * torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype)).square().sum()


@pytest.mark.parametrize(
    ("model", "bits"),
    [
        ("small-cnn", (2, 3, 4)),
        ("small-cnn", (2, 4, 6, 8)),
        ("lenet5", (2, 3)),
        ("resnet8", (2, 3, 4)),
        ("resnet8-b", (3, 4, 5)),
        ("resnet18-small", (2, 3)),
        pytest.param("resnet50", (2, 3), marks=pytest.mark.real),
    ],
)
@pytest.mark.parametrize("layout", ["grouped", "row by row", "row by row, channels last"])
def test_one_pass_equals_the_naive_loop_over_widths_and_branches(
    model: str, bits: tuple[int, ...], layout: str
) -> None:
    network, images = branched(model, bits, policy="paper_code")
    if layout == "grouped":
        logits = network(images)
    else:
        last = torch.channels_last if "last" in layout else torch.contiguous_format
        logits = logits_row_by_row(network, images.contiguous(memory_format=last))
    at_once = logits.chunk(len(bits))
    torch.autograd.backward(sum((squares(one) for one in at_once), torch.tensor(0.0)))
    found = gradients(network)
    for b, of_width in zip(bits, at_once, strict=True):
        alone = naive_logits(network, images, b)
        assert torch.allclose(alone, of_width, atol=1e-9)
        torch.autograd.backward(squares(alone))
    expected = gradients(network)

    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = 1 + gradient.abs().max()
        assert (found[name] - gradient).abs().max() <= 1e-6 * scale, name


def test_gradients_of_single_widths_add_up_to_those_of_one_pass() -> None:
    bits = (2, 3, 4, 8)
    network, images = branched("small-cnn", bits, policy="balanced")
    torch.autograd.backward(sum(map(squares, network(images).chunk(4)), torch.tensor(0.0)))
    at_once = gradients(network)
    for b in reversed(bits):
        active_rows(network).activate((b,))
        torch.autograd.backward(squares(network(images)))
    one_by_one = gradients(network)

    for name, gradient in at_once.items():
        assert torch.allclose(one_by_one[name], gradient, rtol=1e-7, atol=1e-7), name


def test_a_width_gives_no_gradient_to_what_it_does_not_use() -> None:
    network, images = branched("small-cnn", (2, 4, 6, 8), policy="paper_code")
    rows = active_rows(network)
    rows.activate((4,))
    torch.autograd.backward(squares(network(images)))
    full = [row for row, (b, _) in enumerate(rows.full) if b == 4]
    idle = [row for row, (b, _) in enumerate(rows.full) if b != 4]

    for layer in branch_layers(network):
        assert layer.weight.grad is not None and layer.input_upper.grad is not None
        by_branch = layer.weight.grad.view(4, -1).abs().amax(1)
        assert by_branch[[0, 3]].max() == 0 and by_branch[[1, 2]].min() > 0
        assert layer.input_upper.grad[idle].abs().max() == 0
    for norm in branch_norms(network):
        assert norm.weight.grad is not None
        by_row = norm.weight.grad.view(-1, norm.channels).abs().amax(1)
        assert by_row[idle].max() == 0 and by_row[full].min() > 0


def test_training_at_a_width_leaves_the_statistics_of_the_others_alone() -> None:
    network, images = branched("resnet8", (2, 3, 4))
    norm = branch_norms(network)[0]
    before = norm.running_mean.clone()
    active_rows(network).activate((3,))
    network(images)
    changed = norm.running_mean != before
    full = changed[: len(active_rows(network).full) * norm.channels].view(-1, norm.channels)

    assert full.all(1).tolist() == [b == 3 for b, _ in active_rows(network).full]
    assert changed[full.numel() :].all()


def test_switching_widths_back_and_forth_is_lossless() -> None:
    network, images = branched("small-cnn", (2, 3, 4))
    network.eval()
    rows = active_rows(network)
    outputs = []
    with torch.no_grad():
        for b in (3, 2, 4, 3):
            rows.activate((b,))
            outputs.append(network(images))
        rows.activate(rows.all_widths)
        at_once = network(images).chunk(3)

    assert torch.equal(outputs[0], outputs[3])
    for output, b in zip(outputs, (3, 2, 4), strict=False):
        assert torch.allclose(output, at_once[b - 2], atol=1e-9)


def test_widths_outside_the_table_are_refused() -> None:
    network, _ = branched("small-cnn", (2, 4))
    with pytest.raises(ValueError, match="bits must be among"):
        active_rows(network).activate((3,))


def test_a_branch_has_four_weight_codes_that_no_width_changes() -> None:
    network, _ = branched("small-cnn", (2, 3, 4))
    layer = branch_layers(network)[0]
    codes = layer.weight_codes()
    active_rows(network).activate((2,))

    assert torch.equal(codes, layer.weight_codes())
    assert set(codes.flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_two_bits_in_one_branch_are_a_plain_two_bit_network_bit_for_bit() -> None:
    network, images = branched("small-cnn", (2,), noise=0.0)
    body = network.get_submodule("body")
    x = network.get_submodule("stem")(images)
    three = torch.full((1,), 3.0, dtype=torch.float64)
    for child in body.children():
        if isinstance(child, BranchLayer):
            flat = x.reshape(len(x), 1, -1)
            codes = interval_codes(flat, child.input_lower, child.input_upper, three).view_as(x)
            values = weight_values(child.weight_codes()[0]) / 3
            x = functional.conv2d(codes, values, padding=1)
        elif isinstance(child, BranchNorm):
            x = functional.batch_norm(x, None, None, child.weight, child.bias, training=True)
        elif not isinstance(child, FanOut | BranchMean):
            x = child(x)

    assert torch.equal(network.get_submodule("head")(x), network(images))


def test_the_mean_over_identical_branches_is_one_branch() -> None:
    rows = ActiveRows(branch_table((8,), 4, "nested"))
    x = images_of((3, 2, 2)).float()

    assert torch.equal(BranchMean(rows)(FanOut(rows)(x)), x)


def test_means_are_as_precise_as_the_network() -> None:
    rows = ActiveRows(branch_table((6,), 3, "nested"))
    as_made = rows.averaging.dtype

    assert as_made == torch.float32
    assert rows.double().averaging.tolist() == [[1 / 3] * 3]


def test_one_step_of_the_stem_counts_as_one_update_a_width() -> None:
    network, _ = branched("small-cnn", (2, 4, 6, 8))
    momenta = [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)]

    assert momenta == [pytest.approx(0.3439)]


def twins_after_training(noise: float) -> Tensor:
    """Relative distance of branches 1 and 2, which serve the same widths, after some steps."""
    network, images = branched("small-cnn", (2, 4, 6, 8), policy="paper_code", noise=noise)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(squares(network(images)))
        optimizer.step()
    _, first, second, _ = branch_layers(network)[0].branches.detach()
    distance: Tensor = (first - second).norm() / first.norm()
    return distance


def test_noise_keeps_twin_branches_apart() -> None:
    assert twins_after_training(noise=0.05) > 1e-3


def test_without_noise_twin_branches_stay_alike() -> None:
    assert twins_after_training(noise=0.0) < 1e-9


def test_estimated_statistics_are_those_of_the_images() -> None:
    network, images = branched("small-cnn", (2, 3, 4))
    norm = branch_norms(network)[0]
    estimate_norms(network, (images, images))
    once = norm.running_mean.clone()
    estimate_norms(network, (images,))

    assert torch.allclose(norm.running_mean, once)
    assert norm.momentum == 0.1


def test_parameters_that_steer_a_backend_are_checked() -> None:
    plan = BranchPlan(
        table=branch_table((2,), 1, "nested"),
        num_branches=1,
        noise=0.0,
        range_factor=3.0,
        backend="quick",
    )
    generator = torch.Generator().manual_seed(0)
    network = build("small-cnn", (1, 8, 8), CLASSES, generator)
    with pytest.raises(ValueError, match="backend"):
        branch_network(network, MODELS["small-cnn"].layers((1, 8, 8), CLASSES), plan, generator)


def test_the_kernels_of_a_layer_are_those_of_the_plan() -> None:
    network, _ = branched("small-cnn", (2,))

    assert all(layer.kernels is EAGER for layer in branch_layers(network))
