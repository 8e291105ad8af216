"""A plug-in as an installed package makes one: the toys for the command line, in a folder.

The trainer module kills its own process where BITSWEEP_TEST_KILL says: PLACE:COUNT:MARKER, at the
COUNT-th time, unless the file MARKER says that it has done so already.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

KILL_VARIABLE = "BITSWEEP_TEST_KILL"
BITSWEEP = (sys.executable, "-c", "from bitsweep.cli import main; main()")
RUN = ("run", "toy.toml", "--executor", "local", "--mlflow", "none")
MODULE = """
import os
import signal
from pathlib import Path

from bitsweep.testing import toy_declarations, toy_train, toy_train_group

DECLARED = toy_declarations()
METHODS, MODELS, DATA_SETS = DECLARED.methods, DECLARED.models, DECLARED.data


class Killer:
    def __init__(self, text):
        self.place, count, marker = text.split(":", 2)
        self.left, self.marker = int(count), Path(marker)

    def pass_by(self):
        self.left -= 1
        if self.left == 0 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def train(trial, workspace):
    for evaluation in toy_train(trial, workspace):
        if KILLER is not None and KILLER.place == "measured":
            KILLER.pass_by()
        yield evaluation


def train_group(trials, workspaces):
    for found in toy_train_group(trials, workspaces):
        if KILLER is not None and KILLER.place == "measured":
            KILLER.pass_by()
        yield found


def after(owner, name):
    original = getattr(owner, name)

    def wrapped(*arguments, **options):
        result = original(*arguments, **options)
        KILLER.pass_by()
        return result

    setattr(owner, name, wrapped)


KILLER = Killer(os.environ["BITSWEEP_TEST_KILL"]) if "BITSWEEP_TEST_KILL" in os.environ else None
if KILLER is not None and KILLER.place != "measured":
    from bitsweep.execution import worker
    from bitsweep.store.writer import Writer

    places = {
        "outbox": (worker, "_append"),
        "finished": (worker, "_write_synced"),
        "proposed": (Writer, "add_configuration"),
        "planned": (Writer, "add_trial"),
        "claimed": (Writer, "claim"),
        "recorded": (Writer, "record"),
        "ended": (Writer, "end"),
    }
    after(*places[KILLER.place])
"""
SWEEP = """# bitsweep run toy.toml
schema = 1
name = "toy"
question = "Does it run?"
reproduces = "nothing"
expects = "it does"
cost = "seconds"

[task]
data = "toy-data"
model = "toy-net"
trainer = "toy_plugin:train"
start = { method = "toy_fp32", epochs = 2 }
epochs = 3
bits = [2, 3]

[[arms]]
name = "fixed"
method = "toy"

[[arms]]
name = "searched"
method = "toy"
[arms.space]
sharing = { choice = ["off", "bitwise"] }
x = { uniform = [0.0, 1.0] }

[search]
sampler = "tpe"
configurations_per_arm = 3
seeds = [1000]

[[objectives]]
at = "all"

[confirm]
seeds = [0, 1]

[[comparisons]]
arm = "searched"
against = "fixed"
at = "w3a3"
"""

# The two confirm seeds are trained as one network, and so are their starts.
TOGETHER = f"""{SWEEP}
[resources]
seeds_together = 2
"""


def fixed_that(act: str) -> str:
    """The sweep whose first arm's trials do something: hang, raise, be slow."""
    fixed = 'name = "fixed"\nmethod = "toy"'
    return SWEEP.replace(fixed, f'{fixed}\nparameters = {{ act = "{act}" }}')


def install(folder: Path, text: str = SWEEP) -> Path:
    """Write the plug-in and its sweep file; return the folder to put on the path."""
    site = folder / "site"
    info = site / "toy_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy_plugin.py").write_text(MODULE, encoding="utf-8")
    metadata = "Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    entry = "[bitsweep.declarations]\ntoy = toy_plugin\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return site


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """The environment of a command in the folder, with the plug-in on its path."""
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", KILL_VARIABLE}}
    return {**kept, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1", **changes}


def bitsweep(
    folder: Path,
    *arguments: str,
    timeout: float = 120,
    shows_logs: bool = False,
    **changes: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder; a traceback is never an answer, unless others' logs hold it."""
    done = subprocess.run(
        [*BITSWEEP, *arguments],
        cwd=folder,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert shows_logs or "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
    return done


def start(
    folder: Path, *arguments: str, stderr: int | None = subprocess.PIPE, **changes: str
) -> "subprocess.Popen[str]":
    """A command that goes on in the folder; stderr: as of Popen."""
    return subprocess.Popen(
        [*BITSWEEP, *arguments],
        cwd=folder,
        env=environment(folder, **changes),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def run_sweep(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the sweep file to its end without a mirror; return the JSON document."""
    done = bitsweep(folder, *RUN, "--json", *arguments)
    assert done.returncode in {0, 1}, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def run_text(folder: Path, name: str, text: str) -> None:
    """Run a sweep of that name and text in an empty folder to its end, without Ray and mirror."""
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    done = bitsweep(folder, "run", f"{name}.toml", *RUN[2:])
    assert done.returncode == 0, done.stderr
