"""What a scenario is given and gives back."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.bitsweep_suite.clusters import LoopbackCluster
from tests.faults.ledger import Verdict
from tests.faults.site import Site


class Unavailable(Exception):
    """A real part that this machine lacks; the message says what to do."""


class Grounds:
    """What scenarios share: a real Ray cluster, started when the first one asks for it."""

    def __init__(self) -> None:
        self._cluster: LoopbackCluster | None = None

    @property
    def cluster(self) -> LoopbackCluster:
        """A head of three CPUs; further nodes have one each."""
        if self._cluster is None:
            self._cluster = LoopbackCluster(head_cpus=3)
        return self._cluster

    def cluster_of(self, nodes: int) -> LoopbackCluster:
        """The same with at least so many nodes."""
        while self.cluster.size < nodes:
            self.cluster.add_node()
        return self.cluster

    def close(self) -> None:
        """End it."""
        if self._cluster is not None:
            self._cluster.close()
        self._cluster = None


class Scene:
    """One run of one scenario: a folder, a source of randomness, and what must be closed."""

    def __init__(self, folder: Path, *, random: Random, grounds: Grounds) -> None:
        self.folder, self.random, self.grounds = folder, random, grounds
        self.closing = ExitStack()

    def own_cluster(self) -> LoopbackCluster:
        """One of its own; what runs elsewhere would only be in its way."""
        self.grounds.close()
        cluster = LoopbackCluster(head_cpus=3)
        self.closing.callback(cluster.close)
        return cluster

    def site(
        self, *, cluster: LoopbackCluster | None = None, local: bool = False, **options: Any
    ) -> Site:
        """The user's folder, on the shared cluster unless another one, or none, is wanted."""
        where = None if local else cluster or self.grounds.cluster
        site = Site(self.folder, random=self.random, cluster=where, **options)
        self.closing.callback(site.close)
        return site


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a fault: at which moment it struck, and what was found afterwards."""

    moment: str
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A scenario: `strikes` lets the fault happen, starts the sweep again and judges."""

    name: str
    means: str
    strikes: Callable[[Scene], Result]
