"""What travels to a cluster can be imported there, with its entry points, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from bitsweep.errors import InputError
from bitsweep.execution.shipping import stage

LOOK = """
import bitsweep, sys
from importlib.metadata import version
from bitsweep.trainer import (load_declarations, load_trainer)
print(bitsweep.__file__, version("bitsweep"), len(load_declarations().methods))
print(load_trainer("image").__module__)
"""


def test_the_staged_copy_is_found_first_and_knows_its_trainers(tmp_path: Path) -> None:
    stage(tmp_path, trainer="image")
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )

    assert done.stdout.startswith(str(tmp_path))
    assert "bitsweep_trainers.image" in done.stdout


def test_every_staged_path_is_a_folder_without_caches_or_paths_of_this_machine(
    tmp_path: Path,
) -> None:
    paths = [Path(one) for one in stage(tmp_path, trainer="image")]
    names = {path.name.partition("-")[0] for path in paths}

    assert {"bitsweep", "bitsweep_trainers", "bitsweep_dashboards"} <= names
    assert all(path.is_dir() for path in paths)
    assert list(tmp_path.rglob("__pycache__")) == []
    assert not any(str(Path.cwd()) in one.read_text() for one in tmp_path.glob("*.dist-info/*"))


def test_the_module_of_a_trainer_named_by_function_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own.py").write_text("def train(trial, workspace): ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    target = tmp_path / "staged"
    target.mkdir()
    stage(target, trainer="my_own:train")

    assert "def train" in (target / "my_own" / "__init__.py").read_text(encoding="utf-8")


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'no_such_module' cannot be found"):
        stage(tmp_path, trainer="no_such_module:train")
