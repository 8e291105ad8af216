"""MBQuant (arXiv 2305.08117): all widths of one network of 2-bit branches, trained together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.trial import Trial
from bitsweep_trainers.batches import cut
from bitsweep_trainers.branch_network import (
    active_rows,
    are_rows_apart,
    branch_layers,
    branch_network,
    branch_norms,
    estimate_norms,
    logits_row_by_row,
    widen_stem,
)
from bitsweep_trainers.branches import BranchPlan
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.distillation import student_loss
from bitsweep_trainers.layers import calibrate_steps, float_groups, quantize_ends, step_group
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.declared.branch_switches import switched
from bitsweep_trainers.methods.declared.branch_table import RANDOM, BranchTable, BranchUse
from bitsweep_trainers.methods.declared.mbquant import (
    PER_WIDTH,
    end_bits,
    num_branches,
    serving_of,
    table_of,
)
from bitsweep_trainers.models.declared import MODELS


def branch_plan(trial: Trial) -> BranchPlan:
    """What a trial says of its branches."""
    parameters = trial.parameters
    count = num_branches(parameters, trial.bits)
    start = parameters.get("branch_start", "copies")
    return BranchPlan(
        table=table_of(parameters, trial.bits),
        serving=serving_of(parameters, trial.bits),
        num_branches=count,
        noise=float(parameters["branch_noise"]) if start == "copies" else None,
        drawn_scale=count**-0.5 if start == "drawn_grouped" else 1.0,
        range_factor=float(parameters["weight_range"]),
        switches=switched(parameters),
        backend=trial.backend,
    )


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    data = data_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    plan = branch_plan(trial)
    if plan.switches["stem"] == "wide":
        widen_stem(network, plan, generator)
    if end_bits(trial.parameters) < FULL_PRECISION_BITS:
        quantize_ends(network, backend=trial.backend)
    return branch_network(network, layers, plan, generator)


@torch.no_grad()
def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Ranges and steps from the first batch, each on inputs quantized before it; then the norms.

    All widths at once: a row's range depends on no other row.
    """
    rows = active_rows(network)
    rows.activate_all()
    batches = cut(images, trial.batch_size, trial=trial)
    rows.is_calibrating = True
    calibrate_steps(network, batches[0])
    rows.is_calibrating = False
    estimate_norms(network, batches)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    """As in the authors' recipe all weights decay, those of batch norms and biases too.

    The gradient of the ends' steps is a sum over widths: at the full learning rate they run away.
    """
    parameters = trial.parameters
    learning_rate = float(parameters["learning_rate"])
    step_rate = learning_rate * float(parameters["step_learning_rate_ratio"])
    ends = float_groups(network, learning_rate=learning_rate, weight_decay=0.0)
    weights = [one for group in ends for one in group.parameters]
    weights += [layer.weight for layer in branch_layers(network)]
    weights += [one for norm in branch_norms(network) for one in norm.parameters()]
    ranges = [one for layer in branch_layers(network) for one in layer.range_parameters]
    return (
        ParameterGroup(
            name="weights",
            parameters=weights,
            learning_rate=learning_rate,
            weight_decay=float(parameters["weight_decay"]),
        ),
        step_group(network, learning_rate=step_rate),
        ParameterGroup(
            name="ranges",
            parameters=ranges,
            learning_rate=float(parameters["quantizer_learning_rate"]),
            optimizer="adam",
        ),
    )


def width_loss(logits: Tensor, teacher: Tensor | None, labels: Tensor, trial: Trial) -> Tensor:
    """The loss of one width; the largest one has no teacher but the labels."""
    if teacher is None:
        return functional.cross_entropy(logits, labels)
    weight = float(trial.parameters["distillation_weight"])
    temperature = float(trial.parameters["distillation_temperature"]) if weight > 0 else 1.0
    return student_loss(logits, teacher, labels, weight=weight, temperature=temperature)


def widths_loss(logits: Sequence[Tensor], labels: Tensor, trial: Trial) -> Tensor:
    """The sum over widths, ascending: cross-entropy of the largest one, which teaches the rest."""
    *students, teacher = logits
    loss = width_loss(teacher, None, labels, trial)
    for student in students:
        loss = loss + width_loss(student, teacher, labels, trial)
    return loss


def draw_table(trial: Trial, generator: torch.Generator) -> BranchTable | None:
    """The branches of one step where the selection is random, else None.

    Every set of branches is as probable as any other; full ones ascend, a narrow one is last.
    """
    if trial.parameters["selection"] != RANDOM:
        return None
    count = num_branches(trial.parameters, trial.bits)
    drawn = {}
    for bits in (one.weight for one in trial.bits):
        order = torch.randperm(count, generator=generator).tolist()
        full, rest = sorted(order[: bits // 2]), order[bits // 2 :]
        uses = tuple(BranchUse(branch=k) for k in full)
        drawn[bits] = (*uses, BranchUse(branch=rest[0], is_narrow=True)) if bits % 2 else uses
    return drawn


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """All widths in one pass, rows as groups of channels or, on a CPU, in turn; or one by one."""
    rows = active_rows(network)
    drawn = draw_table(trial, generator)
    if trial.parameters.get("execution") == PER_WIDTH:
        return backward_per_width(network, trial, images, labels, drawn=drawn)
    rows.activate(rows.all_widths, drawn)
    by_row = images.is_cpu and are_rows_apart(network)
    logits: Tensor = logits_row_by_row(network, images) if by_row else network(images)
    loss = widths_loss(logits.chunk(len(rows.all_widths)), labels, trial)
    torch.autograd.backward(loss)
    return loss.detach()


def backward_per_width(
    network: nn.Module,
    trial: Trial,
    images: Tensor,
    labels: Tensor,
    *,
    drawn: BranchTable | None = None,
) -> Tensor:
    """The same loss and gradients with the maps of one width in memory; the teacher runs first.

    The stem runs once, forward and backward, as in one pass: its batch norm takes one update.
    """
    rows = active_rows(network)
    features = network.get_submodule("stem")(images)
    entry = features.detach().requires_grad_()
    total: Tensor = features.new_zeros(())
    teacher: Tensor | None = None
    for bits in reversed(rows.all_widths):
        rows.activate((bits,), drawn)
        logits = network.get_submodule("head")(network.get_submodule("body")(entry))
        loss = width_loss(logits, teacher, labels, trial)
        torch.autograd.backward(loss)
        teacher = logits.detach() if teacher is None else teacher
        total += loss.detach()
    torch.autograd.backward(features, entry.grad)
    return total


def _select(network: nn.Module, bits: Bits) -> None:
    active_rows(network).activate((bits.weight,))


MBQUANT = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=_backward,
    select=_select,
)
