"""`bitsweep-dashboard`: read-only pages over a result store, alive while a sweep runs."""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs

from dash import Dash, Input, Output, State, dcc, html, no_update

from bitsweep.store.database import DEFAULT_STORE
from bitsweep_dashboards.access import guard, send_headers
from bitsweep_dashboards.pages import page, title
from bitsweep_dashboards.pages.overview import picker
from bitsweep_dashboards.reading import read_view, shown_address

BAD_INPUT = 2
REFRESH_MILLISECONDS = 3000
STORE_VARIABLE = "BITSWEEP_STORE"
TOKEN_VARIABLE = "BITSWEEP_DASHBOARD_TOKEN"
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>
<link rel="icon" href="/assets/icon.svg">{%css%}</head>
<body><noscript>This page needs JavaScript; `bitsweep table` prints the same.</noscript>
{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""
_SET_TITLE = "function (title) { document.title = title || 'bitsweep'; return title; }"


def create_app(
    store: str,
    *,
    token: str | None = None,
    refresh_milliseconds: int = REFRESH_MILLISECONDS,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Dash:
    """The application over the store at this address; everything it needs is served by itself.

    The store need not exist yet: the page says so and looks again.
    """
    app = Dash(
        __name__,
        serve_locally=True,
        use_pages=False,
        enable_mcp=False,
        title="bitsweep",
        update_title=None,
        index_string=_INDEX,
    )
    app.layout = _shell(refresh_milliseconds)
    _keep_fresh(app, store, clock)
    guard(app.server, token)
    send_headers(app.server, list(app.csp_hashes()))
    return app


def _shell(refresh_milliseconds: int) -> Any:
    """What stands around each page."""
    return html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Interval(id="tick", interval=refresh_milliseconds),
            dcc.Store(id="shown"),
            dcc.Store(id="title"),
            dcc.Store(id="title-set"),
            html.Header(
                [
                    dcc.Link("bitsweep", href="/", className="brand"),
                    html.Span(id="clock", className="muted"),
                ]
            ),
            html.Div(
                [
                    html.Nav(id="picker", **{"aria-label": "Sweeps"}),
                    html.Main(id="page"),
                ],
                className="columns",
            ),
        ],
        className="shell",
    )


def _keep_fresh(app: Dash, store: str, clock: Callable[[], datetime]) -> None:
    @app.callback(  # type: ignore[untyped-decorator]  # Dash is untyped
        Output("picker", "children"),
        Output("page", "children"),
        Output("title", "data"),
        Output("shown", "data"),
        Output("clock", "children"),
        Input("address", "search"),
        Input("tick", "n_intervals"),
        State("shown", "data"),
    )
    def _refresh(search: str | None, _ticks: int | None, shown: str | None) -> tuple[Any, ...]:
        chosen = chosen_sweep(search)
        view = read_view(store, chosen)
        now = f"as of {clock():%H:%M:%S} UTC"
        digest = sha256(repr((chosen, view)).encode()).hexdigest()
        if digest == shown:
            return no_update, no_update, no_update, no_update, now
        return picker(view, chosen=chosen), page(view), title(view), digest, now

    app.clientside_callback(_SET_TITLE, Output("title-set", "data"), Input("title", "data"))


def chosen_sweep(search: str | None) -> str | None:
    """The sweep that the query part of an address names.

    >>> chosen_sweep("?sweep=a%26b"), chosen_sweep("")
    ('a&b', None)
    """
    return parse_qs((search or "").removeprefix("?")).get("sweep", [None])[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; exit code 2 with one line for an option that cannot be honoured."""
    options = _parser().parse_args(arguments)
    token = options.token or os.environ.get(TOKEN_VARIABLE) or None
    family, address = _resolved(options.host, options.port)
    if token is None and not ip_address(address[0]).is_loopback:
        _refuse(
            f"--host {options.host} can be reached from elsewhere: give --token "
            f"(or {TOKEN_VARIABLE}), or stay on 127.0.0.1"
        )
    try:
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        _refuse(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
    _serve(create_app(options.store, token=token), listening, options.store)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitsweep-dashboard", description="Serve read-only pages over a result store."
    )
    store = os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
    parser.add_argument("--store", default=store, help="a file or a database URL")
    parser.add_argument("--host", default="127.0.0.1", help="off loopback a token is needed")
    parser.add_argument("--port", type=port_number, default=8050, help="0: any free one")
    parser.add_argument("--token", help=f"asked of each visitor; default: ${TOKEN_VARIABLE}")
    return parser


def port_number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {number}")
    return number


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        _refuse(f"--host {host}: {error.strerror}")
    return found[0][0], found[0][4]


def _refuse(message: str) -> Any:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def _serve(app: Dash, listening: socket.socket, store: str) -> None:
    from werkzeug.serving import make_server

    host, port = listening.getsockname()[:2]
    # Its log of requests would grow with each refresh.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server(host, port, app.server, threaded=True, fd=listening.fileno())
    place = f"[{host}]" if ":" in host else host
    print(f"bitsweep dashboard over {shown_address(store)}: http://{place}:{port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
