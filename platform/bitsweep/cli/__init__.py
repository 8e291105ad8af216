"""The command line. Each verb imports what it needs when it runs, so that --help is quick."""

import os
import sys

import typer

from bitsweep import __version__
from bitsweep.cli import catalog, cluster, files, models, papers, results, running, stores, studies
from bitsweep.errors import BAD_INPUT, INTERRUPTED, SOME_FAILED, BitsweepError, StoreLost

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


def _run() -> None:
    """A user's mistake is one line and exit code 2, a store that is lost 1."""
    try:
        app()
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
