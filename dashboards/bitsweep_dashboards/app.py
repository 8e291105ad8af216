"""`bitsweep dashboard`: read-only pages over a result store, alive while a sweep runs."""

import argparse
import ctypes
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from bitsweep.errors import BAD_INPUT, InputError
from bitsweep.store.database import DEFAULT_STORE
from bitsweep.store.remote import check_url, is_url
from bitsweep_dashboards.access import guard, send_headers
from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.downloads import add_downloads, add_mlflow
from bitsweep_dashboards.pages import page, title
from bitsweep_dashboards.pieces import in_pieces, piece_id
from bitsweep_dashboards.prefix import path_prefix, under
from bitsweep_dashboards.reading import Library, shown_address
from bitsweep_dashboards.views import is_pending

PIECES = 2  # place of the pieces among the outputs
REFRESH_MILLISECONDS = 3000
STORE_VARIABLE = "BITSWEEP_STORE"
WORK_VARIABLE = "BITSWEEP_WORKSPACES"
TOKEN_VARIABLE = "BITSWEEP_DASHBOARD_TOKEN"
_M_ARENA_MAX = -8  # malloc.h
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>
<link rel="icon" href="PREFIXassets/icon.svg"><script src="PREFIXassets/theme.js"></script>
{%css%}</head>
<body><noscript>This page needs JavaScript; `bitsweep table` prints the same.</noscript>
{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""
_SET_TITLE = "function (title) { document.title = title || 'bitsweep'; return title; }"


def create_app(
    store: str,
    *,
    token: str | None = None,
    refresh_milliseconds: int = REFRESH_MILLISECONDS,
    prefix: str = "/",
    mlflow_url: str | None = None,
    ray_url: str | None = None,
    work: str | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Dash:
    """The application over the store at this address; everything it needs is served by itself.

    The store need not exist yet: the page says so and looks again. `prefix` is the path that the
    application is reached under, with a slash at both ends. `work` is the folder or the URL of
    trials' logs.
    """
    app = Dash(
        __name__,
        serve_locally=True,
        use_pages=False,
        enable_mcp=False,
        title="bitsweep",
        update_title=None,
        assets_ignore="theme.js",
        index_string=_INDEX.replace("PREFIX", prefix),
        routes_pathname_prefix="/",
        requests_pathname_prefix=prefix,
    )
    library = Library(store, work=work)
    # What is imported and read for the first page is there before the first visitor is.
    threading.Thread(target=library.view, args=(parse_place("/", ""),), daemon=True).start()
    app.layout = _shell(refresh_milliseconds, prefix)
    _keep_fresh(
        app, library, prefix=prefix, mlflow=mlflow_url is not None, ray=ray_url, clock=clock
    )
    add_downloads(app.server, library, store)
    if mlflow_url is not None:
        add_mlflow(app.server, library, mlflow_url)
    guard(app.server, token)
    send_headers(app.server, list(app.csp_hashes()))
    app.server.wsgi_app = under(app.server.wsgi_app, prefix)
    return app


def _shell(refresh_milliseconds: int, prefix: str) -> Any:
    """What stands around each page."""
    return html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Interval(id="tick", interval=refresh_milliseconds),
            dcc.Store(id="shown"),
            dcc.Store(id="title"),
            dcc.Store(id="title-set"),
            html.A("Skip to the page", href="#page", className="skip"),
            html.Header(
                [
                    html.A("bitsweep", href=prefix, className="brand"),
                    html.Nav(id="pages", **{"aria-label": "Pages"}),
                    html.Span(id="clock", className="muted"),
                    html.Button(
                        "Light / dark", id="theme", type="button", className="quiet theme"
                    ),
                ]
            ),
            html.Main(
                html.P("Reading the store ...", className="muted loading"), id="page", tabIndex=-1
            ),
        ],
        className="shell",
    )


def _menu(page_name: str, prefix: str) -> Any:
    """The pages that belong to no sweep; the one that is shown is marked."""
    pages = (("overview", "", "Sweeps"), ("compare", "compare", "Compare"), ("sql", "sql", "SQL"))
    return html.Ul(
        [
            html.Li(
                html.A(
                    text,
                    href=f"{prefix}{path}",
                    className="on" if name == page_name else "",
                    **{"aria-current": "page"} if name == page_name else {},
                )
            )
            for name, path, text in pages
        ]
    )


def _keep_fresh(
    app: Dash,
    library: Library,
    *,
    prefix: str,
    mlflow: bool,
    ray: str | None,
    clock: Callable[[], datetime],
) -> None:
    @app.callback(  # type: ignore[untyped-decorator]  # Dash is untyped
        Output("pages", "children"),
        Output("page", "children"),
        # Outputs, not `set_props`: the browser drops them with an answer that was overtaken.
        Output(piece_id(ALL), "children"),
        Output("title", "data"),
        Output("shown", "data"),
        Output("clock", "children"),
        Input("address", "pathname"),
        Input("address", "search"),
        Input("tick", "n_intervals"),
        State("shown", "data"),
    )
    def _refresh(
        path: str | None, search: str | None, _ticks: int | None, shown: Any
    ) -> tuple[Any, ...]:
        place = parse_place(path, search, prefix=prefix)
        now = f"as of {clock():%H:%M:%S} UTC"
        before = shown if isinstance(shown, dict) else {}
        numbers = [one["id"]["piece"] for one in ctx.outputs_list[PIECES]]
        standing = [no_update] * len(numbers)
        nothing = (no_update, no_update, standing, no_update, no_update, now)
        is_same_place = before.get("place") == place.href
        # A question is asked once, neither with each tick nor as its answer's pieces appear.
        if is_same_place and place.page == "sql" and ctx.triggered_id != "address":
            return nothing
        pulse = library.pulse()
        if is_same_place and pulse and before.get("pulse") == pulse:
            return nothing
        view = library.view(place)
        digest = sha256(repr((place.href, view)).encode()).hexdigest()
        whole = not is_pending(view)
        state: dict[str, Any] = {
            "place": place.href,
            "pulse": pulse if whole else "",
            "digest": digest,
        }
        if digest == before.get("digest"):
            return no_update, no_update, standing, no_update, before | state, now
        drawn, digests = in_pieces(page(view, place, mlflow=mlflow, ray=ray))
        kind = [type(view).__name__, place.page, place.name]
        state |= {"kind": kind, "pieces": digests}
        old = before.get("pieces", [])
        if before.get("kind") != kind or not len(old) == len(digests) == len(standing):
            return _menu(place.page, prefix), drawn, standing, title(view), state, now
        pieces = [
            drawn.children[number].children if old[number] != digests[number] else no_update
            for number in numbers
        ]
        return no_update, no_update, pieces, title(view), state, now

    app.clientside_callback(_SET_TITLE, Output("title-set", "data"), Input("title", "data"))


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
    _share_heaps()
    app = create_app(
        options.store,
        token=token,
        prefix=options.path_prefix,
        mlflow_url=options.mlflow_url,
        ray_url=options.ray_url,
        work=options.workspaces,
    )
    _serve(app, listening, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitsweep-dashboard", description="Serve read-only pages over a result store."
    )
    store = os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
    parser.add_argument("--store", default=store, help="a file or a database URL")
    parser.add_argument("--host", default="127.0.0.1", help="off loopback a token is needed")
    parser.add_argument("--port", type=port_number, default=8050, help="0: any free one")
    parser.add_argument("--token", help=f"asked of each visitor; default: ${TOKEN_VARIABLE}")
    parser.add_argument(
        "--path-prefix",
        type=_prefix_argument,
        default="/",
        help="path under which a reverse proxy serves this, such as /bitsweep/",
    )
    parser.add_argument("--mlflow-url", type=web_address, help="MLflow server, for links to runs")
    parser.add_argument("--ray-url", type=web_address, help="Ray dashboard, for a link to it")
    parser.add_argument(
        "--workspaces",
        type=_work_argument,
        default=os.environ.get(WORK_VARIABLE) or None,
        help="the folder or URL (s3://...) with logs of trials; default: beside the store",
    )
    return parser


def port_number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {number}")
    return number


def _prefix_argument(text: str) -> str:
    try:
        return path_prefix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _work_argument(text: str) -> str:
    if is_url(text):
        try:
            check_url(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return text


def web_address(text: str) -> str:
    """An address of http or https; nothing else may become a link."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT, got {text!r}")
    return text


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        _refuse(f"--host {host}: {error.strerror}")
    return found[0][0], found[0][4]


def _refuse(message: str) -> Any:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def _share_heaps() -> None:
    """Keep memory flat: glibc gives threads heaps of their own, which seldom shrink.

    1,000 loads of the benchmark took a server from 122 to 158 MB and more; with two heaps for all
    threads it stays at 114. Other C libraries have no such call.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 2)


def _serve(app: Dash, listening: socket.socket, options: argparse.Namespace) -> None:
    from werkzeug.serving import make_server

    host, port = listening.getsockname()[:2]
    # Its log of requests would grow with each refresh.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server(host, port, app.server, threaded=True, fd=listening.fileno())
    place = f"[{host}]" if ":" in host else host
    address = f"http://{place}:{port}{options.path_prefix}"
    print(f"bitsweep dashboard over {shown_address(options.store)}: {address}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
