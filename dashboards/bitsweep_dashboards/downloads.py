"""Files of what a page shows, and the way to a trial's MLflow run: plain routes."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, redirect, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as AnyResponse

from bitsweep.analysis.render import csv_text, table_rows
from bitsweep.errors import BitsweepError, InputError
from bitsweep.store.asking import ask
from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.reading import SQL_ROWS, SQL_SECONDS, Library, without_password

_MLFLOW_SECONDS = 5.0
_LARGEST_REPLY_BYTES = 1_000_000


def add_downloads(server: Flask, library: Library, store: str) -> None:
    """Serve the table of a sweep, and the answer to a question, as CSV."""

    def table(name: str) -> Response:
        place = parse_place(f"/sweep/{quote(name, safe='')}", request.query_string.decode())
        try:
            return _csv(csv_text(table_rows(library.table(place))), f"{name}.csv")
        except (BitsweepError, SQLAlchemyError) as error:
            return _problem(without_password(str(error), store))

    def answer() -> Response:
        sql = request.args.get("q", "")
        try:
            found = ask(store, sql, limit=SQL_ROWS, timeout_seconds=SQL_SECONDS)
        except BitsweepError as error:
            return _problem(without_password(str(error), store))
        rows = [dict(zip(found.names, row, strict=True)) for row in found.rows]
        return _csv(csv_text(rows) or ",".join(found.names), "answer.csv")

    server.add_url_rule("/download/<path:name>", "download-table", table)
    server.add_url_rule("/download-sql", "download-sql", answer)


def _csv(text: str, name: str) -> Response:
    answer = Response(f"{text}\n", mimetype="text/csv")
    answer.headers.set("Content-Disposition", "attachment", filename=name)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _problem(message: str, *, status: int = 400) -> Response:
    return Response(f"{message}\n", status=status, mimetype="text/plain")


def add_mlflow(server: Flask, library: Library, uri: str) -> None:
    """Lead from a trial to its run: the store does not know the ids that MLflow gave."""

    def run(trial: str) -> AnyResponse:
        try:
            sweep, whole = library.sweep_of(trial)
            return redirect(run_address(uri, sweep=sweep, trial=whole), code=303)
        except (BitsweepError, SQLAlchemyError) as error:
            return _problem(str(error), status=404)

    server.add_url_rule("/mlflow/<trial>", "mlflow", run)


def run_address(uri: str, *, sweep: str, trial: str) -> str:
    """The address of a trial's newest run; raise InputError where MLflow does not show it."""
    base = uri.rstrip("/")
    found = _ask_mlflow(f"{base}/api/2.0/mlflow/experiments/get-by-name?experiment_name=", sweep)
    experiment = str(found["experiment"]["experiment_id"])
    wanted = {
        "experiment_ids": [experiment],
        "filter": f"tags.`bitsweep.trial` = '{trial}'",
        "max_results": 1,
    }
    runs = _ask_mlflow(f"{base}/api/2.0/mlflow/runs/search", "", body=wanted).get("runs", [])
    if not runs:
        raise InputError(f"MLflow shows no run of this trial: `bitsweep mirror {sweep}` adds it")
    return f"{base}/#/experiments/{experiment}/runs/{runs[0]['info']['run_id']}"


def _ask_mlflow(address: str, name: str, *, body: Any = None) -> Any:
    """One call of MLflow's REST interface, at the address that the operator gave."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(
        f"{address}{quote(name)}", data=data, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=_MLFLOW_SECONDS) as reply:
            return json.loads(reply.read(_LARGEST_REPLY_BYTES))
    except urllib.error.HTTPError as error:
        raise InputError(
            f"MLflow answered {error.code}: `bitsweep mirror` brings it up to date"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"MLflow cannot be asked at --mlflow-url: {error}") from error
