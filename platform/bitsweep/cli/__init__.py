"""The command line. Each verb imports what it needs when it runs, so that --help is quick."""

import os
import sys
from typing import Any

import typer

from bitsweep import __version__
from bitsweep.cli import catalog, cluster, files, models, papers, results, running, stores, studies
from bitsweep.errors import BAD_INPUT, INTERRUPTED, SOME_FAILED, BitsweepError, StoreLost

# What typer raises for options and arguments that cannot be; it has no public name for it.
UsageError: Any = typer.BadParameter.__bases__[0]
OTHER_WORDS = {
    "plan": "bitsweep run FILE --dry-run",
    "check": "bitsweep validate FILE` or `bitsweep store check",
}

app = typer.Typer(
    name="bitsweep",
    help="Sweeps for neural-network quantization research.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
files.add_to(app)
running.add_to(app)
cluster.add_to(app)
results.add_to(app)
papers.add_to(app)
models.add_to(app)
catalog.add_to(app)
stores.add_to(app)
studies.add_to(app)


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(f"bitsweep {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command, and end the process with its exit code.

    Where Ray was loaded the interpreter is not taken down piece by piece: an interrupted start of
    Ray has crashed in that, after all was said and kept. Everything is flushed and closed by then.
    """
    try:
        _run()
    except SystemExit as end:
        if "ray" not in sys.modules or not isinstance(end.code, int | None):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)


def _told(error: UsageError) -> str:
    """One line; other tools' words for our commands are known."""
    words = error.format_message().split()
    for word, ours in OTHER_WORDS.items():
        if words[:4] == ["No", "such", "command", f"'{word}'."]:
            words += ["Did", "you", "mean", f"`{ours}`?"]
    return " ".join(words)


def _run() -> None:
    """A user's mistake is one line and exit code 2, a store that is lost 1."""
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        if not sys.argv[1:]:  # its message is the help
            typer.echo(error.format_message())
        else:
            typer.echo(f"error: {_told(error)}", err=True)
        sys.exit(BAD_INPUT)
    except StoreLost as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(SOME_FAILED)
    except BitsweepError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left (`bitsweep table ... | head`): that is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
