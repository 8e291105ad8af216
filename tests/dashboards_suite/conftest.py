"""What must be torn down: a dashboard that listens, and a browser; and a store made once."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.dashboards_suite.stores import run_toy, toy_sweep
from tests.real_parts import missing
from werkzeug.serving import make_server

from bitsweep_dashboards.app import create_app

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished sweep named toy; to be read alone."""
    return run_toy(tmp_path_factory.mktemp("toy") / "store.db", toy_sweep())


@pytest.fixture
def own_store(toy_store: str, tmp_path: Path) -> str:
    """A copy of the finished store that a test may change."""
    return str(shutil.copy(toy_store, tmp_path / "store.db"))


@pytest.fixture
def listen() -> Iterator[Callable[..., str]]:
    """Serve a store on a free port of loopback, with options of `create_app`; the address."""
    servers = []

    def start(store: str, **options: Any) -> str:
        app = create_app(store, refresh_milliseconds=500, **options)
        server = make_server("127.0.0.1", 0, app.server, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; skips (or fails, where real parts are required) without one."""
    if not CHROMIUM.exists():
        missing("no /usr/bin/chromium: make system-packages")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the package playwright is missing: pip install -e '.[dev]'")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield opened
        opened.close()
