"""A path under which a reverse proxy serves the dashboard, such as /bitsweep/."""

import re
from collections.abc import Callable, Iterable
from typing import Any

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]
_SEGMENTS = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def path_prefix(text: str) -> str:
    """A prefix with a slash at both ends; raise ValueError for what is no path.

    >>> path_prefix("bitsweep"), path_prefix("/a/b/"), path_prefix("/")
    ('/bitsweep/', '/a/b/', '/')
    """
    inner = text.strip("/")
    whole = f"/{inner}" if inner else ""
    if not _SEGMENTS.fullmatch(whole) or {".", ".."} & set(inner.split("/")):
        raise ValueError(f"expected a path such as /bitsweep/, got {text!r}")
    return f"{whole}/"


def under(application: Wsgi, prefix: str) -> Wsgi:
    """The application below the prefix, whether or not the proxy has taken it off the path."""
    root = prefix.rstrip("/")
    if not root:
        return application

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == root or path.startswith(prefix):
            environ["PATH_INFO"] = path[len(root) :] or "/"
        environ["SCRIPT_NAME"] = root
        return application(environ, start_response)

    return answer
