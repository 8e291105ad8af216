"""The tables of a sweep file that shape a search: they arrive, and mistakes are one line each."""

from pathlib import Path

import pytest
from tests.bitsweep_suite.sweep_texts import WHOLE, read

from bitsweep.bits import tied
from bitsweep.errors import InputError
from bitsweep.sweep import Constraint, Median, Objective, Tpe

OBJECTIVE = """[[objectives]]
metric = "top1_percent"
at = ["w3a3"]
goal = "maximize"
"""
SIZE = """
[[objectives]]
metric = "size_bits"
at = ["w3a3"]
"""
LIMIT = """
[[constraints]]
metric = "size_bits"
at_most = 400_000
at = [2, 3]
"""
SAMPLER = 'sampler = "tpe"'
SCHEDULER = "scheduler = { asha = { grace_epochs = 2, reduction_factor = 2 } }"
POINT = "first = [{ learning_rate = 0.01 }]"


def with_first(point: str) -> str:
    """The whole file with first points of the arm lsq."""
    return WHOLE.replace('method = "lsq"\n', f'method = "lsq"\n{point}\n')


def numbers_only() -> str:
    """The whole file without the arm that has a choice."""
    begin, end = WHOLE.index('[[arms]]\nname = "cpq"'), WHOLE.index('[[arms]]\nname = "lsq"')
    text = WHOLE[:begin] + WHOLE[end:]
    return text[: text.index("[[comparisons]]")] + text[text.index("[resources]") :]


def test_every_key_arrives(tmp_path: Path) -> None:
    text = with_first(POINT).replace(OBJECTIVE, OBJECTIVE + SIZE + LIMIT)
    text = text.replace(
        SCHEDULER, 'scheduler = { median = { grace_epochs = 1 } }\nwarm_start = ["old"]'
    )
    text = text.replace(
        SAMPLER, "sampler = { tpe = { grouped = false } }\nstartup_configurations = 2"
    )
    text = text.replace("retries = 2", "max_failures = 9\narm_failures = 3\ndevice_hours = 0.5")
    sweep = read(text, tmp_path)

    assert sweep.search.tpe == Tpe(grouped=False) and sweep.search.startup_configurations == 2
    assert sweep.search.scheduler == Median(grace_epochs=1, min_trials=3)
    assert sweep.search.warm_start == ("old",)
    assert sweep.arm("lsq").first == ({"learning_rate": 0.01},)
    assert sweep.objectives[1] == Objective(metric="size_bits", at=(tied(3),), goal="minimize")
    assert sweep.constraints == (
        Constraint(metric="size_bits", at_most=400_000, at=(tied(2), tied(3))),
    )
    assert (sweep.budget.max_failures, sweep.budget.arm_failures) == (9, 3)
    assert sweep.budget.device_hours == 0.5


@pytest.mark.parametrize("sampler", ["gp", "nsga2", "nsga3", "qmc", "random"])
def test_each_sampler_may_search_choices_and_conditions(sampler: str, tmp_path: Path) -> None:
    text = WHOLE.replace(SAMPLER, f'sampler = "{sampler}"')

    assert read(text, tmp_path).search.sampler == sampler


def test_cmaes_may_search_numbers(tmp_path: Path) -> None:
    text = numbers_only().replace(SAMPLER, 'sampler = "cmaes"')

    assert read(text, tmp_path).search.sampler == "cmaes"


def test_the_goal_of_a_loss_is_to_be_small(tmp_path: Path) -> None:
    text = WHOLE.replace(OBJECTIVE, '[[objectives]]\nmetric = "loss"\n')

    assert read(text, tmp_path).goal == "minimize"


MISTAKES = {
    "cmaes with a choice": (
        WHOLE.replace(SAMPLER, 'sampler = "cmaes"'),
        "arms[1].space.sharing: cmaes searches numbers",
    ),
    "cmaes with two objectives": (
        numbers_only().replace(SAMPLER, 'sampler = "cmaes"').replace(OBJECTIVE, OBJECTIVE + SIZE),
        "search.sampler: cmaes takes one objective, got 2",
    ),
    "costs alone": (
        WHOLE.replace(OBJECTIVE, SIZE),
        "objectives[0].metric: a cost alone needs no training",
    ),
    "a cost to be large": (
        WHOLE.replace(OBJECTIVE, OBJECTIVE + SIZE + 'goal = "maximize"\n'),
        "objectives[1].goal: expected 'minimize' for size_bits",
    ),
    "an objective twice": (
        WHOLE.replace(OBJECTIVE, OBJECTIVE + OBJECTIVE),
        "objectives[1]: this objective stands here twice",
    ),
    "each beside a list": (
        WHOLE.replace(OBJECTIVE, OBJECTIVE + SIZE.replace('["w3a3"]', '"each"')),
        "objectives[1].at: one study per width serves every objective",
    ),
    "a limit of nothing": (
        WHOLE.replace(OBJECTIVE, OBJECTIVE + LIMIT.replace("400_000", "0")),
        "constraints[0].at_most: expected greater than 0",
    ),
    "a limit where nothing is measured": (
        WHOLE.replace(OBJECTIVE, OBJECTIVE + LIMIT.replace("[2, 3]", "[5]")),
        "constraints[0].at: arm 'cpq' can never measure w5a5",
    ),
    "a limit of another metric": (
        WHOLE.replace(OBJECTIVE, OBJECTIVE + LIMIT.replace("size_bits", "loss")),
        "constraints[0].metric: expected 'size_bits' or 'bitops', got 'loss'",
    ),
    "a point outside": (
        with_first("first = [{ learning_rate = 0.01 }, { learning_rate = 0.9 }]"),
        "arms[2].first[1]: learning_rate = 0.9 lies outside the space",
    ),
    "a point of another name": (
        with_first("first = [{ learning_rat = 0.01 }]"),
        "learning_rat is not searched (did you mean 'learning_rate'?)",
    ),
    "an incomplete point": (with_first("first = [{}]"), "learning_rate is missing"),
    "a point without a space": (
        WHOLE.replace('method = "ptq"\n', f'method = "ptq"\n{POINT}\n'),
        "arms[0].first: the arm has no space",
    ),
    "too many points": (
        with_first(f"first = [{', '.join(['{ learning_rate = 0.01 }'] * 7)}]"),
        "7 points, but search.configurations_per_arm is 6",
    ),
    "a warm start of itself": (
        WHOLE.replace(SAMPLER, SAMPLER + '\nwarm_start = ["whole"]'),
        "search.warm_start: a sweep goes on from its own results",
    ),
    "a warm start that teaches nothing": (
        WHOLE.replace(SAMPLER, 'sampler = "nsga2"\nwarm_start = ["old"]'),
        "nsga2 cannot learn from other sweeps' results; expected sampler tpe, gp, cmaes",
    ),
    "two schedulers": (
        WHOLE.replace(
            "reduction_factor = 2 }", "reduction_factor = 2 }, median = { grace_epochs = 1 }"
        ),
        "search.scheduler: expected exactly one of asha, median",
    ),
    "a median too late": (
        WHOLE.replace(SCHEDULER, "scheduler = { median = { grace_epochs = 4 } }"),
        "search.scheduler.median.grace_epochs: expected fewer than task.epochs = 4",
    ),
    "groups without a common model": (
        WHOLE.replace(SAMPLER, "sampler = { tpe = { multivariate = false } }"),
        "search.sampler.tpe.grouped: needs multivariate = true",
    ),
    "an unknown option of a sampler": (
        WHOLE.replace(SAMPLER, "sampler = { tpe = { group = true } }"),
        "unknown key (did you mean 'grouped'?)",
    ),
    "no hours": (
        WHOLE.replace("retries = 2", "device_hours = 0"),
        "budget.device_hours: expected greater than 0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str, tmp_path: Path) -> None:
    text, expected = MISTAKES[name]
    with pytest.raises(InputError) as raised:
        read(text, tmp_path)

    assert expected in str(raised.value) and "\n" not in str(raised.value)
