"""Options that commands share, and where these find store and MLflow."""

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal

import typer

from bitsweep.errors import InputError

WORK_VARIABLE = "BITSWEEP_WORKSPACES"
COMMAND_VARIABLE = "BITSWEEP_COMMAND"
STORE_VARIABLE = "BITSWEEP_STORE"
MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"
MLFLOW_SCHEMES = frozenset(
    {"http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks"}
)

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Result store: a file or a database URL.", show_default=False),
]
MlflowOption = Annotated[
    str | None,
    typer.Option("--mlflow", help="MLflow tracking URI, or 'none'.", show_default=False),
]
WorkOption = Annotated[
    str | None,
    typer.Option(
        "--workspaces",
        help="Folder of workspaces, checkpoints and logs that every node sees; default: beside "
        "a store that is a file.",
        show_default=False,
    ),
]
NodesOption = Annotated[
    bool,
    typer.Option(
        "--wait-for-nodes",
        help="The cluster can grow: ask its autoscaler for what the sweep wants, and wait.",
    ),
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the file."),
]
RetryOption = Annotated[
    Literal["failed"] | None, typer.Option(help="Run failed and diverged trials again.")
]
CompletionOption = Annotated[
    str | None,
    typer.Option(
        "--on-completion",
        metavar="COMMAND|URL",
        help="Told when the run ends, however it ends: JSON by standard input or by POST; of a "
        "job, on the cluster.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def store_address(option: str | None) -> str:
    """The store a command uses."""
    return option or os.environ.get(STORE_VARIABLE) or "results/bitsweep.db"


def mlflow_uri(option: str | None) -> str | None:
    """The tracking URI; None when the user wants no mirror. InputError for what MLflow has not."""
    wanted = option or os.environ.get(MLFLOW_VARIABLE)
    if wanted is None:
        folder = Path("results").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}"
    if wanted.lower() == "none":
        return None
    if "://" in wanted:
        scheme = wanted.partition("://")[0]
        plugins = {entry.name for entry in entry_points(group="mlflow.tracking_store")}
        if scheme.partition("+")[0].lower() not in MLFLOW_SCHEMES | plugins:
            known = ", ".join(sorted(MLFLOW_SCHEMES))
            raise InputError(
                f"--mlflow {scheme}://...: MLflow has no such kind of address; expected a folder, "
                f"'none', or one of {known}"
            )
    return wanted


def work_place(option: str | None) -> str | None:
    """Where trials keep state, checkpoints and logs; None: beside the store."""
    return option or os.environ.get(WORK_VARIABLE) or None
