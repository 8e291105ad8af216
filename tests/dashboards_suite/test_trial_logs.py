"""The log of a trial at a URL: shown, absent, refused or late, and never waited for."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest
from tests.dashboards_suite.layouts import text_of
from tests.dashboards_suite.stores import reader_of

from bitsweep.store.logs import log_name
from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.app import main
from bitsweep_dashboards.pages import page
from bitsweep_dashboards.reading import Library
from bitsweep_dashboards.trial_logs import LOG_LINES, LogEnd, TrialLogs
from bitsweep_dashboards.views import OneTrial, is_pending

WAIT_SECONDS = 0.2
LONGEST_SECONDS = 2.0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a web server of this folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def failed_trial(store: str) -> str:
    """The id of the trial that was told to fail."""
    reader = reader_of(store)
    rows = reader.trial_rows(reader.sweep("toy").id)
    return next(row.trial_id for row in rows if row.arm == "bad")


def ended(logs: TrialLogs, trial_id: str) -> LogEnd:
    """What is found when a page asks again and again."""
    end = monotonic() + 20
    while (found := logs.end(trial_id)).is_pending and monotonic() < end:
        pass
    return found


@pytest.mark.parametrize("kind", ["file", "http"])
def test_the_end_of_a_log_at_a_url_is_that_of_the_file(toy_store: str, kind: str) -> None:
    folder, trial_id = Path(toy_store).parent, failed_trial(toy_store)
    with served(folder) as address:
        url = address if kind == "http" else folder.as_uri()
        found = ended(TrialLogs(url), trial_id)
        absent = ended(TrialLogs(url), "0" * 64)
    here = TrialLogs(folder).end(trial_id)

    assert found.lines == here.lines and here.lines
    assert found.place == url
    assert (absent.lines, absent.problem) == (None, "")


def test_of_a_long_log_the_end_alone_is_sent(toy_store: str, tmp_path: Path) -> None:
    target = tmp_path / log_name("a")
    target.parent.mkdir()
    line = Path(toy_store, "..").resolve() / log_name(failed_trial(toy_store))
    target.write_bytes(line.read_bytes() * 200)
    found, here = (ended(TrialLogs(one), "a") for one in (tmp_path.as_uri(), tmp_path))

    assert target.stat().st_size > 64 * 1024
    assert found.lines == here.lines
    assert len(here.lines or ()) == LOG_LINES


def test_a_place_that_never_answers_holds_no_page_up(toy_store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        place = parse_place(f"/trial/{failed_trial(toy_store)}", "")
        library = Library(toy_store, work=url)
        taken = []
        for _ in range(3):
            begin = monotonic()
            view = library.view(place)
            taken.append(monotonic() - begin)

    assert isinstance(view, OneTrial) and is_pending(view)
    assert "has not answered yet" in text_of(page(view, place))
    assert max(taken) < LONGEST_SECONDS
    assert max(taken[1:]) < 0.5 * LONGEST_SECONDS


def test_few_questions_are_open_at_a_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        before = threading.active_count()
        logs = TrialLogs(url, wait_seconds=0.0)
        found = {logs.end(str(number)) for number in range(50)}

        assert found == {LogEnd(place=url, is_pending=True)}
        assert threading.active_count() <= before + 10


def test_a_place_that_cannot_be_reached_is_said_with_what_to_do(toy_store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://ada:secret@127.0.0.1:{closed.getsockname()[1]}"
    place = parse_place(f"/trial/{failed_trial(toy_store)}", "")
    library = Library(toy_store, work=url)
    view = library.view(place)
    while isinstance(view, OneTrial) and is_pending(view):
        view = library.view(place)
    text = text_of(page(view, place))

    assert "cannot be reached" in text and "Reload this page" in text
    assert "secret" not in repr(view)


def test_a_kind_of_url_that_nothing_opens_is_refused_at_the_start(
    toy_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--store", toy_store, "--workspaces", "nowhere://bucket"])

    assert refused.value.code == 2
    assert "--workspaces nowhere://bucket" in capsys.readouterr().err
