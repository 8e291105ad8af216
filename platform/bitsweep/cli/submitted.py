"""The entry of a submitted job, on the cluster: the same `bitsweep run`, from a folder of its own.

The job's folder is not Ray's: nodes of one machine share Ray's, and a node's end clears it.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bitsweep.cli.places import COMMAND_VARIABLE, STORE_VARIABLE, WORK_VARIABLE

SUBMITTED_VARIABLE = "BITSWEEP_SUBMITTED"


def main(verb: str) -> None:
    """Run the sweep that the environment describes, or ask its drivers to stop."""
    document = json.loads(os.environ[SUBMITTED_VARIABLE])
    home = _home()
    arguments = ["stop", document["sweep"]]
    if verb == "run":
        _enter(home / "jobs" / document["job"], document)
        os.environ[COMMAND_VARIABLE] = document["command"]
        if _is_server(os.environ.get(STORE_VARIABLE, "")):  # a file has its folder beside it
            os.environ.setdefault(WORK_VARIABLE, str(home / "work"))
        arguments = ["run", f"{document['sweep']}.toml", *document["arguments"]]
    sys.argv = ["bitsweep", *arguments]
    from bitsweep.cli import main as command_line

    command_line()


def _is_server(store: str) -> bool:
    return "://" in store and not store.startswith("sqlite")


def _enter(folder: Path, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    Path(f"{document['sweep']}.toml").write_text(document["text"], encoding="utf-8")


def _home() -> Path:
    """~/.bitsweep, or a temporary folder where there is no home to write to."""
    home = Path.home() / ".bitsweep"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"bitsweep-{os.getuid()}"
    return home if os.access(home, os.W_OK) else Path(tempfile.mkdtemp(prefix="bitsweep-"))


if __name__ == "__main__":
    main(sys.argv[1])
