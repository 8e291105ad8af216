"""The address of a view: which page, of what, and every choice made on it.

A view is a function of its address and the store, so that an address can be sent to a colleague.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import parse_qsl, quote, unquote, urlencode

from bitsweep.errors import InputError

Page = Literal["overview", "sweep", "compare", "space", "layers", "trial", "sql", "unknown"]
NAMED: tuple[Page, ...] = ("sweep", "space", "layers", "trial")
_LONGEST = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A page with its choices; `prefix` is the path that the server is reached under.

    >>> Place(page="sweep", name="a b", query=(("bits", "w2a2"),)).href
    '/sweep/a%20b?bits=w2a2'
    """

    page: Page
    name: str = ""
    query: tuple[tuple[str, str], ...] = ()
    prefix: str = "/"

    @property
    def href(self) -> str:
        """Path and query, for a link."""
        path: str = "" if self.page == "overview" else self.page
        if self.page in NAMED:
            path = f"{self.page}/{quote(self.name, safe='')}"
        elif self.page == "unknown":
            path = quote(self.name)
        return f"{self.prefix}{path}" + (f"?{urlencode(self.query)}" if self.query else "")

    def one(self, key: str) -> str | None:
        """The last value of a choice; None where it was not made."""
        return dict(self.query).get(key)

    def all(self, key: str) -> tuple[str, ...]:
        """All values of a choice that can be made more than once, each once."""
        return tuple(dict.fromkeys(value for name, value in self.query if name == key))

    def number(self, key: str, *, default: int) -> int:
        """A choice that is a whole number from 1; raise InputError for anything else."""
        text = self.one(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
            raise InputError(f"{key}: expected a whole number from 1, got {text[:40]!r}")
        return int(text)

    def among(self, key: str, known: Sequence[str]) -> str | None:
        """A choice of these words; raise InputError for another one."""
        text = self.one(key)
        if text is not None and text not in known:
            raise InputError(f"{key}: expected one of {', '.join(known)}; got {text[:40]!r}")
        return text

    def order(self, key: str, known: Sequence[str]) -> tuple[str | None, bool]:
        """A choice of what to sort by, and whether it is descending: a minus before the word."""
        text = self.one(key)
        if text is None:
            return None, False
        if text.removeprefix("-") not in known:
            words = ", ".join(known)
            raise InputError(f"{key}: expected one of {words}, or -WORD; got {text[:40]!r}")
        return text.removeprefix("-"), text.startswith("-")

    def having(self, key: str, *values: str) -> "Place":
        """The same page with other values of one choice; none: the choice not made."""
        kept = [pair for pair in self.query if pair[0] != key]
        return replace(self, query=(*kept, *((key, value) for value in values)))

    def go(self, page: Page, name: str = "", *query: tuple[str, str]) -> "Place":
        """Another page of the same server."""
        return Place(page=page, name=name, query=query, prefix=self.prefix)

    def asset(self, path: str) -> str:
        """The address of something that the server holds beside its pages."""
        return f"{self.prefix}{path}"


def parse_place(path: str | None, search: str | None, *, prefix: str = "/") -> Place:
    """The place that a browser's path and query name; what is no page is the page `unknown`.

    >>> parse_place("/sweep/toy", "?hide=a&hide=b").all("hide")
    ('a', 'b')
    >>> parse_place("/nowhere", None).page, parse_place("/?", "?sweep=toy").href
    ('unknown', '/sweep/toy')
    """
    path, search = (path or "/")[:_LONGEST], (search or "")[:_LONGEST]
    inner = path.removeprefix(prefix.rstrip("/")).partition("?")[0].strip("/")
    query = tuple(parse_qsl(search.removeprefix("?"), keep_blank_values=False))
    first, _, rest = inner.partition("/")
    if not inner:
        wanted = dict(query).get("sweep")  # how the first dashboard named a sweep
        return (
            Place(page="sweep", name=wanted, prefix=prefix)
            if wanted
            else Place(page="overview", query=query, prefix=prefix)
        )
    page: Page = next((one for one in get_args(Page) if one == first), "unknown")
    if page in ("unknown", "overview") or (page in NAMED) != bool(rest):
        return Place(page="unknown", name=inner, prefix=prefix)
    return Place(page=page, name=unquote(rest), query=query, prefix=prefix)
