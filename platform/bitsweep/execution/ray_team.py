"""The followers of a trial as Ray actors on the bundles of its placement group, used again."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from bitsweep.execution.base import Job, job_document, parse_job
from bitsweep.execution.team import FollowerRun, WorkerLost, meeting_at


class _Follower:
    """One follower: one job after the other."""

    def __init__(self) -> None:
        self._run: FollowerRun | None = None
        self._begin: Callable[[], FollowerRun] | None = None

    def begin(self, document: str, rank: int, meeting: str) -> None:
        self.close()
        job = parse_job(json.loads(document))
        self._begin = lambda: FollowerRun(job, rank=rank, meeting=meeting)

    def step(self) -> None:
        if self._run is None:
            assert self._begin is not None  # begin comes first
            self._run = self._begin()
        self._run.step()

    def close(self) -> None:
        if self._run is not None:
            self._run.close()
        self._run = None


class RayTeam:
    """Makes the actors at the first trial and keeps them; rank 0 is the actor that holds this.

    A follower that dies ends this process at once: rank 0 may wait inside a collective, where
    nothing else wakes it. Tune then starts the trial again, and Ray ends the other followers with
    their owner.
    """

    def __init__(self, bundle: dict[str, float]) -> None:
        self._bundle = bundle
        self._actors: list[Any] = []
        self._steps: list[Any] = []

    def begin(self, job: Job) -> str:
        """Give them the job; they meet on this node."""
        wanted = job.trial.world_size - 1
        while len(self._actors) < wanted:
            self._actors.append(self._actor(len(self._actors) + 1))
        meeting = meeting_at(ray.util.get_node_ip_address())
        document = json.dumps(job_document(job))
        try:
            ray.get(
                [
                    actor.begin.remote(document, rank, meeting)
                    for rank, actor in enumerate(self._actors[:wanted], start=1)
                ]
            )
        except RayActorError as error:
            raise WorkerLost("a worker of the trial died") from error
        return meeting

    def _actor(self, bundle: int) -> Any:
        group = get_current_placement_group()
        others = {k: v for k, v in self._bundle.items() if k not in {"CPU", "GPU", "memory"}}
        return (
            ray.remote(_Follower)
            .options(
                num_cpus=self._bundle.get("CPU", 1),
                num_gpus=self._bundle.get("GPU", 0),
                memory=self._bundle.get("memory"),
                resources=others or None,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_bundle_index=bundle
                ),
            )
            .remote()
        )

    def step(self) -> None:
        """Let each go on, and watch over them."""
        self._steps = [actor.step.remote() for actor in self._actors]
        threading.Thread(target=_watch, args=(list(self._steps),), daemon=True).start()

    def join(self) -> None:
        """Wait for their step."""
        steps, self._steps = self._steps, []
        try:
            ray.get(steps)
        except RayTaskError as error:
            reason = str(error.cause or error).strip().splitlines()
            raise RuntimeError(
                f"a worker of the trial: {reason[-1] if reason else error}"
            ) from error
        except RayError as error:
            raise WorkerLost("a worker of the trial died") from error

    def close(self) -> None:
        """End the job for them; those that are inside a collective are ended themselves."""
        if self._steps:
            for actor in self._actors:
                ray.kill(actor)
            self._actors, self._steps = [], []
        for actor in self._actors:
            actor.close.remote()


def _watch(steps: list[Any]) -> None:
    left = steps
    while left:
        done, left = ray.wait(left)
        try:
            ray.get(done)
        except RayActorError:
            os._exit(1)
        except RayError:
            return  # it failed: rank 0 hears of it, or fails with it
