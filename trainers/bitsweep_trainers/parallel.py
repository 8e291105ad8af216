"""A trial over several workers: equal shares of each batch, gradients averaged over the group.

Rank 0 measures and saves. The group is made anew for each trial and left with it. Batch norms see
their worker's share alone, unless they are synchronised.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from bitsweep.trainer import Workspace
from bitsweep_trainers.methods.base import ParameterGroup

# Workers step together: none waits in a collective while rank 0 measures.
TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The workers of one trial as one of them sees them; a group of one does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this one measures and saves."""
        return self.rank == 0

    def share_of(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """This worker's part of a batch; ValueError where it cannot be cut in equal parts."""
        if self.size == 1:
            return images, labels
        if len(labels) % self.size:
            raise ValueError(f"a batch of {len(labels)} cannot be shared by {self.size} workers")
        each = len(labels) // self.size
        mine = slice(self.rank * each, (self.rank + 1) * each)
        return images[mine], labels[mine]

    def mean_gradients(self, groups: Sequence[ParameterGroup], loss: float) -> float:
        """Average gradients and loss over the workers: those of the whole batch.

        A parameter that got a gradient on some workers alone counts as zero on the others.
        """
        if self.size == 1:
            return loss
        parameters = [one for group in groups for one in group.parameters if one.requires_grad]
        device = parameters[0].device if parameters else torch.device("cpu")
        has = torch.tensor(
            [float(one.grad is not None) for one in parameters] + [loss], device=device
        )
        distributed.all_reduce(has)
        mean_loss = float(has[-1]) / self.size
        with_gradient = [one for one, n in zip(parameters, has[:-1].tolist(), strict=True) if n]
        for one in with_gradient:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        gradients: list[Tensor] = [one.grad for one in with_gradient if one.grad is not None]
        if gradients:
            flat = torch.cat([one.reshape(-1) for one in gradients])
            distributed.all_reduce(flat)
            flat /= self.size
            means = torch.split(flat, [one.numel() for one in gradients])
            for gradient, mean in zip(gradients, means, strict=True):
                gradient.copy_(mean.view(gradient.shape))
        return mean_loss

    def settle(self, network: nn.Module) -> None:
        """At the end of an epoch: average the statistics, hold the weights against each other.

        RuntimeError where weights differ: the method changes them outside of gradients, by what
        one worker sees.
        """
        if self.size == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.size
        sums = [one.detach().double().sum() for one in network.parameters()]
        if not sums:
            return
        mine = torch.stack(sums)
        low, high = mine.clone(), mine.clone()
        distributed.all_reduce(low, op=distributed.ReduceOp.MIN)
        distributed.all_reduce(high, op=distributed.ReduceOp.MAX)
        if not torch.allclose(low, high, rtol=1e-6, atol=1e-6):
            raise RuntimeError(
                "the workers' weights differ: this method changes them by what one worker sees; "
                "run it with workers_per_trial = 1"
            )

    def share_file(self, path: Path) -> None:
        """Give the leader's file, if it has one, to the others under their own path."""
        if self.size == 1:
            return
        holder: list[bytes | None] = [None]
        if self.is_leader and path.exists():
            holder[0] = path.read_bytes()
        distributed.broadcast_object_list(holder, src=0)
        if not self.is_leader and holder[0] is not None:
            path.write_bytes(holder[0])


SOLO = Group()


@contextmanager
def joined(workspace: Workspace, device: torch.device) -> Iterator[Group]:
    """The group that the workspace names, left at the end; SOLO where it names none."""
    team = workspace.team
    if team is None:
        yield SOLO
        return
    distributed.init_process_group(
        backend="nccl" if device.type == "cuda" else "gloo",
        init_method=f"tcp://{team.meeting}",
        rank=team.rank,
        world_size=team.size,
        timeout=TIMEOUT,
    )
    try:
        yield Group(rank=team.rank, size=team.size)
    finally:
        distributed.destroy_process_group()
