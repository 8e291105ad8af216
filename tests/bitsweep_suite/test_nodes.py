"""A node that fails what others finish is put aside; a trial that fails everywhere is not its
fault."""

import pytest

from bitsweep.execution.nodes import NODE_FAILURES, Nodes, PutAside
from bitsweep.trial import Diverged, Failed, Finished, Interrupted, Outcome

BROKEN = Failed(reason="RuntimeError: CUDA error")
WELL = Finished(epoch=4)
BOTH = ("good", "bad")


def fails_here_and_ends_there(nodes: Nodes, trial: str) -> PutAside | None:
    """A trial fails on the bad node and finishes on the good one."""
    assert nodes.wants_another(trial, BROKEN, node="bad", others=BOTH)
    return nodes.ended(trial, WELL, node="good")


def test_a_node_that_fails_what_others_finish_is_put_aside() -> None:
    nodes = Nodes()
    said = [fails_here_and_ends_there(nodes, str(one)) for one in range(NODE_FAILURES)]

    assert said[:-1] == [None] * (NODE_FAILURES - 1)
    assert said[-1] is not None and "node 7 gets no further trial" in said[-1].text("7")
    assert "CUDA error" in said[-1].text("7")
    assert nodes.aside == nodes.avoided_by("another") == {"bad"}


def test_a_success_on_a_node_clears_it() -> None:
    nodes = Nodes()
    for one in range(NODE_FAILURES - 1):
        fails_here_and_ends_there(nodes, str(one))
    nodes.ended("well", WELL, node="bad")

    assert fails_here_and_ends_there(nodes, "later") is None


def test_a_trial_that_fails_on_two_nodes_has_failed_and_accuses_nobody() -> None:
    nodes = Nodes()
    for one in map(str, range(5)):
        assert nodes.wants_another(one, BROKEN, node="bad", others=BOTH)
        assert nodes.avoided_by(one) == {"bad"}
        assert not nodes.wants_another(one, BROKEN, node="good", others=BOTH)
        assert nodes.ended(one, BROKEN, node="good") is None

    assert nodes.aside == frozenset()


@pytest.mark.parametrize(
    "outcome",
    [WELL, Diverged(reason="nan"), Failed(reason="timeout: over 1 minutes")],
    ids=lambda one: type(one).__name__,
)
def test_what_is_the_trials_own_is_not_tried_elsewhere(outcome: Outcome) -> None:
    assert not Nodes().wants_another("a", outcome, node="bad", others=BOTH)


def test_a_full_disk_of_one_node_is_no_reason_to_stop() -> None:
    full = Interrupted(reason="no space left")

    assert Nodes().wants_another("a", full, node="bad", others=BOTH)


def test_where_there_is_one_node_a_failure_is_believed() -> None:
    assert not Nodes().wants_another("a", BROKEN, node="bad", others=("bad",))
