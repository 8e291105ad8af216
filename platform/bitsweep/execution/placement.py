"""Whether a trial's bundles fit on a cluster's nodes at all, whoever uses them at this moment."""

from collections.abc import Mapping, Sequence

from bitsweep.errors import InputError
from bitsweep.execution.limits import BYTES_PER_GIB
from bitsweep.sweep import Resources

Bundle = Mapping[str, float]
_UNITS = {"CPU": "CPU cores", "GPU": "GPUs", "memory": "bytes of memory"}


def bundles_of(resources: Resources) -> list[dict[str, float]]:
    """What each worker of a trial takes, in Ray's names; memory in bytes."""
    bundle: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        bundle["GPU"] = resources.gpus_per_worker
    if (memory := memory_bytes(resources)) is not None:
        bundle["memory"] = memory
    bundle |= dict(resources.custom_per_worker)
    return [dict(bundle) for _ in range(resources.workers_per_trial)]


def memory_bytes(resources: Resources) -> int | None:
    """The memory of one worker, reserved on its node and its limit; None: as much as there is."""
    gib = resources.memory_gib_per_worker
    return None if gib is None else int(gib * BYTES_PER_GIB)


def check_fits(bundles: Sequence[Bundle], nodes: Sequence[Bundle], *, strategy: str = "") -> None:
    """Raise InputError where a trial can never start: said at once instead of waited for.

    bundles: what each worker takes, on one node each. strategy STRICT_SPREAD wants a node per
    worker, STRICT_PACK one node for all.
    """
    wanted = [_sum(bundles)] if strategy == "STRICT_PACK" else bundles
    for bundle in wanted:
        if not any(holds(node, bundle) for node in nodes):
            raise InputError(_misfit(bundle, nodes, is_whole=len(bundles) > len(wanted)))
    if not _all_placed(wanted, nodes, is_apart=strategy == "STRICT_SPREAD"):
        how = " each on a node of its own," if strategy == "STRICT_SPREAD" else ""
        raise InputError(
            f"a trial wants {len(bundles)} workers,{how} each with {_text(bundles[0])}: the "
            f"cluster's {len(nodes)} nodes cannot hold them together; take fewer or smaller "
            "workers in [resources], or add nodes"
        )


def _all_placed(bundles: Sequence[Bundle], nodes: Sequence[Bundle], *, is_apart: bool) -> bool:
    """First fit; exact here, since the workers of a trial are all alike."""
    left = [dict(node) for node in nodes]
    for bundle in bundles:
        for index, node in enumerate(left):
            if holds(node, bundle):
                left[index] = {name: node.get(name, 0) - bundle.get(name, 0) for name in node}
                if is_apart:
                    left[index] = {}
                break
        else:
            return False
    return True


def holds(node: Bundle, bundle: Bundle) -> bool:
    """Whether an empty node has all that a bundle takes."""
    return all(node.get(name, 0.0) >= amount for name, amount in bundle.items() if amount)


def _sum(bundles: Sequence[Bundle]) -> dict[str, float]:
    names = {name for bundle in bundles for name in bundle}
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in sorted(names)}


def _misfit(bundle: Bundle, nodes: Sequence[Bundle], *, is_whole: bool) -> str:
    who = "a trial" if is_whole else "a worker of a trial"
    missing = [
        name
        for name, amount in bundle.items()
        if amount > max((node.get(name, 0.0) for node in nodes), default=0.0)
    ]
    if missing:
        largest = {name: max(node.get(name, 0.0) for node in nodes) for name in missing}
        has = f"the largest node has {_text(largest)}"
    else:
        has = "no single node has all of it"
    return (
        f"{who} wants {_text(bundle)} on one node: {has}; ask for less in [resources], or join a "
        "cluster with such a node (--address; --wait-for-nodes: one that can grow)"
    )


def _text(bundle: Bundle) -> str:
    return ", ".join(f"{value:g} {_UNITS.get(name, name)}" for name, value in bundle.items())
