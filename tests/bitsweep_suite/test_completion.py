"""Whoever is to be told of a run's end is told, however it ends; trouble with that is harmless."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted; answers /broken with an error."""

    received: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body))
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    """The address of a web hook and what it received."""
    received: list[Any] = []
    handler = type("OwnHook", (Hook,), {"received": received})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


def test_a_web_hook_gets_a_summary(hook: tuple[str, list[Any]], tmp_path: Path) -> None:
    address, received = hook
    plugin.install(tmp_path)
    document = plugin.run_sweep(tmp_path, "--on-completion", address)

    (told,) = received
    assert (told["sweep"], told["status"], told["exit_code"]) == ("toy", "finished", 0)
    assert told["trials_run"] == document["trials_run"] > 0
    assert told["text"].startswith("toy: finished: ")


def test_a_command_of_the_sweep_file_gets_it_on_its_input(tmp_path: Path) -> None:
    text = plugin.SWEEP.replace(
        'cost = "seconds"',
        'cost = "seconds"\non_completion = "cat > told.json; echo $BITSWEEP_STATUS > status"',
    ).replace('method = "toy"\n\n', 'method = "toy"\nparameters = { act = "raise" }\n\n', 1)
    plugin.install(tmp_path, text)
    done = plugin.bitsweep(tmp_path, *plugin.RUN)
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))

    assert done.returncode == told["exit_code"] == 1
    assert (tmp_path / "status").read_text(encoding="utf-8") == "failed\n"
    assert "the toy was told to fail" in told["failures"][0]


def test_an_error_is_told_too(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    (tmp_path / "file").touch()
    places = ("--workspaces", "file/work", "--on-completion", "cat > told.json")
    done = plugin.bitsweep(tmp_path, *plugin.RUN, *places)
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))

    assert (done.returncode, told["exit_code"], told["status"]) == (2, 2, "error")
    assert "cannot be written" in told["error"] and told["text"].endswith(told["error"])


def test_an_interrupt_is_told_too(tmp_path: Path) -> None:
    plugin.install(tmp_path, plugin.fixed_that("hang"))
    process = plugin.start(tmp_path, *plugin.RUN, "--on-completion", "cat > told.json")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("results/workspaces/*/outbox.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))

    assert (process.returncode, told["exit_code"], told["status"]) == (130, 130, "interrupted")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{address}/broken", "127.0.0.1 answered 500"),
        ("http://127.0.0.1:1/secret", "127.0.0.1 was not reached: "),
        ("http://[", "the URL cannot be read"),
        ("echo oh >&2; exit 3", "the command ended with 3: oh"),
        ("no-such-command", "the command ended with 127"),
    ],
)
def test_trouble_with_it_is_a_warning(
    target: str, said: str, hook: tuple[str, list[Any]], tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    told = target.format(address=hook[0])
    done = plugin.bitsweep(tmp_path, *plugin.RUN, "--on-completion", told)

    assert done.returncode == 0
    assert f"warning: on_completion: {said}" in done.stderr and "secret" not in done.stderr
