"""Who may look, and what a browser may do with a page: token, cookie and security headers."""

import hmac
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

from flask import Flask, Request, Response, redirect, request
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

COOKIE = "bitsweep_dashboard"
SIGN_IN = "/sign-in"
_PUBLIC = (SIGN_IN, "/assets/style.css", "/assets/icon.svg", "/assets/theme.js")
_SIGN_IN_PAGE = Markup(
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<title>Sign in - bitsweep</title>"
    '<link rel="icon" href="{root}/assets/icon.svg">'
    '<link rel="stylesheet" href="{root}/assets/style.css">'
    '<script src="{root}/assets/theme.js"></script>'
    '</head><body><main class="state"><h1>bitsweep</h1>'
    "<p>This dashboard asks for the token it was started with.</p>{problem}"
    '<form method="post" action="{root}/sign-in"><input type="hidden" name="next" value="{next}">'
    '<label for="token">Token</label>'
    '<input id="token" name="token" type="password" autocomplete="current-password" required '
    "autofocus><button>Sign in</button></form></main></body></html>"
)
_NO_PROBLEM = Markup("")
_WRONG = Markup('<p class="problem" role="alert">That is not the token. Try again.</p>')


def guard(server: Flask, token: str | None) -> None:
    """Let only holders of the token in; without one, only who speaks to a loopback name.

    The second keeps a web page elsewhere from reading the store through a name that it points at
    this machine.
    """
    if token is None:
        server.before_request(_answer_loopback)
    else:
        server.before_request(lambda: _answer(request, token))


def _answer_loopback() -> Response | None:
    if is_loopback(request.headers.get("Host", "")):
        return None
    message = "Without --token this dashboard answers to localhost and 127.0.0.1 alone.\n"
    return Response(message, status=400, mimetype="text/plain")


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine and no other.

    >>> is_loopback("localhost:8050"), is_loopback("[::1]:8050"), is_loopback("lab.example:8050")
    (True, True, False)
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _answer(asked: Request, token: str) -> AnyResponse | None:
    """None lets the request through."""
    if asked.path == SIGN_IN and asked.method == "POST":
        return _sign_in(asked, token, asked.form.get("token", ""), asked.form.get("next", "/"))
    if _is_allowed(asked, token):
        return None
    if asked.method == "GET" and "token" in asked.args:
        return _sign_in(asked, token, asked.args["token"], _without_token(asked))
    if asked.path in _PUBLIC and asked.path != SIGN_IN:
        return None
    return _refusal(asked, _without_token(asked) if asked.method == "GET" else "/")


def _is_allowed(asked: Request, token: str) -> bool:
    bearer = asked.authorization.token if asked.authorization else None
    has_cookie = _is_same(asked.cookies.get(COOKIE, ""), _cookie_value(token))
    return has_cookie or (bearer is not None and _is_same(bearer, token))


def _sign_in(asked: Request, token: str, given: str, wanted: str) -> AnyResponse:
    if not _is_same(given, token):
        return _refusal(asked, wanted, problem=_WRONG)
    answer = redirect(f"{asked.script_root}{_own_place(wanted)}", code=303)
    answer.set_cookie(
        COOKIE,
        _cookie_value(token),
        path=asked.script_root or "/",
        httponly=True,
        samesite="Strict",
        secure=asked.is_secure,
    )
    return answer


def _refusal(asked: Request, wanted: str, *, problem: Markup = _NO_PROBLEM) -> Response:
    page = _SIGN_IN_PAGE.format(next=_own_place(wanted), problem=problem, root=asked.script_root)
    return Response(page, status=401, mimetype="text/html")


def _without_token(asked: Request) -> str:
    kept = [pair for pair in asked.args.items(multi=True) if pair[0] != "token"]
    return f"{asked.path}?{urlencode(kept)}" if kept else asked.path


def _own_place(wanted: str) -> str:
    """The place if it lies on this server, else the first page.

    >>> _own_place("/?sweep=a"), _own_place("//elsewhere"), _own_place("/sign-in")
    ('/?sweep=a', '/', '/')
    """
    is_path = wanted.startswith("/") and not wanted.startswith(("//", SIGN_IN))
    # Browsers read a backslash as a slash and skip control characters.
    is_plain = wanted.isprintable() and "\\" not in wanted
    return wanted if is_path and is_plain else "/"


def _cookie_value(token: str) -> str:
    """Proves that its holder knew the token, and does not contain it."""
    return hmac.new(token.encode(), b"bitsweep dashboard", sha256).hexdigest()


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def send_headers(server: Flask, script_hashes: list[str]) -> None:
    """Add the security headers to every response; the hashes are those of Dash's own scripts.

    Styles may stand inline because Dash's renderer adds style elements.
    """
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {' '.join(script_hashes)}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )

    @server.after_request
    def _add(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if response.mimetype in ("text/html", "application/json"):
            response.headers["Cache-Control"] = "no-store"
        return response
