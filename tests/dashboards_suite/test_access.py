"""Who gets in, and with which headers."""

import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from bitsweep.cli import app as cli
from bitsweep_dashboards.access import COOKIE
from bitsweep_dashboards.app import _parser, create_app, main

TOKEN = "correct horse"


def client(store: str, token: str | None = None) -> Any:
    """Flask's own test client."""
    return create_app(store, token=token).server.test_client()


def test_the_page_is_served_with_its_language_and_title(toy_store: str) -> None:
    answer = client(toy_store).get("/?sweep=toy")

    assert answer.status_code == 200
    assert '<html lang="en">' in answer.text
    assert "<title>bitsweep</title>" in answer.text
    assert 'name="viewport"' in answer.text


def test_nothing_of_the_page_lies_elsewhere(toy_store: str) -> None:
    text = client(toy_store).get("/").text

    assert 'src="http' not in text
    assert 'href="http' not in text


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ],
)
def test_each_page_carries_the_security_headers(toy_store: str, header: str, value: str) -> None:
    assert client(toy_store).get("/").headers[header] == value


def test_only_scripts_of_this_server_may_run(toy_store: str) -> None:
    policy = client(toy_store).get("/").headers["Content-Security-Policy"]
    scripts = next(one for one in policy.split("; ") if one.startswith("script-src"))

    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in scripts
    assert "'unsafe-eval'" not in scripts
    assert "http" not in policy


def test_without_a_token_a_foreign_name_is_refused(toy_store: str) -> None:
    assert client(toy_store).get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client(toy_store).get("/", headers={"Host": "[::1]:8050"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/_dash-layout", "/_dash-dependencies", "/?token=wrong", "/assets/none.css"]
)
def test_without_the_token_nothing_is_told(toy_store: str, path: str) -> None:
    answer = client(toy_store, TOKEN).get(path)

    assert answer.status_code == 401
    assert 'type="password"' in answer.text


def test_a_callback_without_the_token_is_refused(toy_store: str) -> None:
    assert client(toy_store, TOKEN).post("/_dash-update-component", json={}).status_code == 401


def test_the_token_buys_a_cookie_that_scripts_cannot_read(toy_store: str) -> None:
    visitor = client(toy_store, TOKEN)
    answer = visitor.post("/sign-in", data={"token": TOKEN, "next": "/?sweep=toy"})
    cookie = answer.headers["Set-Cookie"]

    assert (answer.status_code, answer.headers["Location"]) == (303, "/?sweep=toy")
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert visitor.get("/").status_code == 200


def test_a_link_with_the_token_leads_to_one_without(toy_store: str) -> None:
    answer = client(toy_store, TOKEN).get("/", query_string={"sweep": "toy", "token": TOKEN})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/?sweep=toy")


def test_a_script_may_send_the_token_as_a_bearer(toy_store: str) -> None:
    visitor = client(toy_store, TOKEN)

    assert visitor.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert visitor.get("/", headers={"Authorization": "Bearer other"}).status_code == 401


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example"]
)
def test_signing_in_leads_nowhere_else(toy_store: str, wanted: str) -> None:
    answer = client(toy_store, TOKEN).post("/sign-in", data={"token": TOKEN, "next": wanted})

    assert answer.headers["Location"] == "/"


def test_the_sign_in_page_escapes_what_it_was_asked_for(toy_store: str) -> None:
    text = client(toy_store, TOKEN).get("/", query_string={"sweep": '"><script>'}).text

    assert '"><script>' not in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "give --token"),
        (["--host", "::"], "give --token"),
        (["--port", "65536"], "expected 0 to 65535"),
        (["--workspaces", "gs://here/there"], "install gcsfs to access Google Storage"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_bitsweep_dashboard_takes_every_option_of_the_program() -> None:
    verbs: Any = get_command(cli)  # a click Group
    known = {option for one in verbs.commands["dashboard"].params for option in one.opts}

    assert set(_parser()._option_string_actions) - {"-h"} <= known | {"--help"}


def test_the_verb_passes_its_options_on() -> None:
    code = "from bitsweep.cli import main; main()"
    command = [sys.executable, "-c", code, "dashboard", "--ray-url", "ftp://nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "--ray-url: expected http://HOST:PORT, got 'ftp://nowhere'" in done.stderr
