"""The ten queries of the documentation run as they stand, on each kind of store."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, SEARCHED, STARTED, acting, toy_plan, toy_sweep

from bitsweep.run import RunOptions, run_sweep
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm

DOCUMENT = Path(__file__).parents[2] / "docs" / "queries.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
QUERIES = re.findall(r"^## (\d+)\. .*?\n\n```sql\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
ARMS = (Arm(name="whole", method="toy_fp32"), FIXED, SEARCHED, acting("raise"))


@pytest.fixture
def reader(store: str) -> Iterator[Reader]:
    """The store of a finished sweep in which one arm failed."""
    plan = toy_plan(toy_sweep(*ARMS, task=STARTED))
    run_sweep(
        plan, RunOptions(store=store, mlflow=None, executor="local"), observe=lambda progress: None
    )
    opened = Reader(open_to_read(store))
    yield opened
    opened.close()


def test_there_are_ten_queries() -> None:
    assert [number for number, _ in QUERIES] == [str(one) for one in range(1, 11)]


def test_each_query_answers_with_rows(reader: Reader) -> None:
    answers = {number: reader.query(sql)[1] for number, sql in QUERIES}

    assert [number for number, rows in answers.items() if not rows] == []
