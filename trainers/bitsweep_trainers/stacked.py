"""Networks of one architecture as one: every tensor stacked, one pass and one step for all.

Axes: S members, N samples of a batch. The one network is torch.vmap over the stacked tensors,
which makes a grouped convolution of S convolutions and a batched product of S linear maps.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from bitsweep.trial import Trial
from bitsweep_trainers.loop import Training, optimizers_of
from bitsweep_trainers.losses import training_loss
from bitsweep_trainers.methods.base import ParameterGroup
from bitsweep_trainers.wide_norm import widen

SMALL = 1e-6  # as torch's clip_grad_norm_ adds to a norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The tensors of all members along a first dimension of S, with their optimizers.

    `template` is the architecture alone; its own tensors mean nothing. The members keep what they
    had until `unstack`.
    """

    members: Sequence[Training]
    template: nn.Module
    parameters: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor]
    groups: Sequence[ParameterGroup]
    optimizers: tuple[Optimizer, ...]


class _Mean(nn.Module):
    """The mean over all pixels, or over time, kept as one: what pools to one pixel do.

    Torch's pool ends in a call that torch.vmap makes for one member after another.
    """

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, 1, ...)."""
        return values.mean(tuple(range(2, values.ndim)), keepdim=True)


def stack(members: Sequence[Training]) -> Stack:
    """The stack of members that are equal but for their tensors, all after the same step."""
    networks = [one.network for one in members]
    parameters: dict[str, nn.Parameter] = {}
    named = [dict(one.named_parameters()) for one in networks]
    for name, one in named[0].items():
        together = stacked([each[name].detach() for each in named])
        parameters[name] = nn.Parameter(together, requires_grad=one.requires_grad)
    buffers = [dict(one.named_buffers()) for one in networks]
    names = {one: name for name, one in named[0].items()}
    groups = [
        replace(group, parameters=[parameters[names[one]] for one in group.parameters])
        for group in members[0].groups
    ]
    made = Stack(
        members=members,
        template=_template(networks[0]),
        parameters=parameters,
        buffers={name: stacked([each[name] for each in buffers]) for name in buffers[0]},
        groups=groups,
        optimizers=optimizers_of(groups),
    )
    _stack_optimizers(made)
    return made


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """(S, ...), a copy; each part has the memory order of the first tensor.

    >>> kernels = torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)
    >>> stacked([kernels, kernels])[1].is_contiguous(memory_format=torch.channels_last)
    True
    """
    strides = tensors[0].stride()
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    together = torch.stack([one.permute(order) for one in tensors])
    return together.permute(0, *(1 + order.index(dim) for dim in range(len(order))))


def _template(network: nn.Module) -> nn.Module:
    template = deepcopy(network)
    for path, module in list(template.named_modules()):
        is_pool = isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d)
        if is_pool and module.output_size in (1, (1,), (1, 1)):
            template.set_submodule(path, _Mean())
    widen(template)
    return template


def _pairs(made: Stack) -> list[tuple[Optimizer, nn.Parameter, list[tuple[Optimizer, Tensor]]]]:
    """Each stacked parameter that is learned, with its optimizer; and the members' likewise."""
    pairs = []
    for index, optimizer in enumerate(made.optimizers):
        theirs = [one.optimizers[index] for one in made.members]
        for place, group in enumerate(optimizer.param_groups):
            for number, parameter in enumerate(group["params"]):
                own = [(one, one.param_groups[place]["params"][number]) for one in theirs]
                pairs.append((optimizer, parameter, own))
    return pairs


def _stack_optimizers(made: Stack) -> None:
    """Momentum and moments stacked; the count of steps is the same for all."""
    for optimizer, parameter, own in _pairs(made):
        states = [one.state[theirs] for one, theirs in own if theirs in one.state]
        assert len(states) in (0, len(own)), "members of a stack are after the same step"
        for name in states[0] if states else ():
            values = [one[name] for one in states]
            together = values[0].clone() if name == "step" else stacked(values)
            optimizer.state[parameter][name] = together


@torch.no_grad()
def unstack(made: Stack) -> None:
    """Give every member its tensors and the states of its optimizers."""
    for index, member in enumerate(made.members):
        for name, parameter in member.network.named_parameters():
            parameter.copy_(made.parameters[name][index])
        for name, buffer in member.network.named_buffers():
            buffer.copy_(made.buffers[name][index])
    for optimizer, parameter, own in _pairs(made):
        for name, value in optimizer.state.get(parameter, {}).items():
            for index, (one, theirs) in enumerate(own):
                part = value if name == "step" else value[index]
                one.state[theirs][name] = part.clone()


def without(made: Stack, lost: Sequence[int]) -> Stack:
    """The stack of the other members, with the gradients that they have; lost ones keep theirs."""
    unstack(made)
    kept = [index for index in range(len(made.members)) if index not in lost]
    fewer = stack([made.members[index] for index in kept])
    for name, parameter in fewer.parameters.items():
        if (gradient := made.parameters[name].grad) is not None:
            parameter.grad = gradient[kept]
    return fewer


def laid_out(images: Tensor, trial: Trial, num_members: int) -> Tensor:
    """(S * N, C, ...) -> (N, S, C, ...), in the memory order in which convolutions take it."""
    images_SN = images.view(num_members, -1, *images.shape[1:])
    if images.ndim == 4 and trial.recipe.memory_format == "channels_last":
        return images_SN.permute(1, 3, 4, 0, 2).contiguous().permute(0, 3, 4, 1, 2)
    images_NS = images_SN.transpose(0, 1)
    return images_NS.contiguous() if images.ndim > 2 else images_NS


def mean_losses(made: Stack, images_NS: Tensor, targets_SN: Tensor) -> Tensor:
    """The mean loss of each member on its batch (S,); each counts for its own tensors alone."""
    recipe = made.members[0].trial.recipe

    def mean_loss(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, targets: Tensor
    ) -> Tensor:
        outputs = functional_call(made.template, (parameters, buffers), (images,))
        return training_loss(outputs, targets, recipe)

    losses: Tensor = torch.vmap(mean_loss, in_dims=(0, 0, 1, 0))(
        dict(made.parameters), dict(made.buffers), images_NS, targets_SN
    )
    return losses


def clip_gradients(made: Stack) -> None:
    """Clip the gradient norm of each member in each group that asks for it."""
    for group in made.groups:
        gradients = [one.grad for one in group.parameters if one.grad is not None]
        if group.clip_norm is None or not gradients:
            continue
        num_members = len(made.members)
        norm = torch.linalg.vector_norm
        norms = torch.stack([norm(one.reshape(num_members, -1), dim=1) for one in gradients])
        factors = (group.clip_norm / (norm(norms, dim=0) + SMALL)).clamp(max=1)
        for one in gradients:
            one.mul_(factors.view(-1, *[1] * (one.ndim - 1)))
