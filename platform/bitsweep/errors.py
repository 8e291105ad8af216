"""What can go wrong, in words a user understands; each ends a command with exit code 2."""

# Exit codes of every command; 0 where all went well.
SOME_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


class BitsweepError(Exception):
    """A message for the user: what was expected, what came and what to do. Never a traceback."""


class InputError(BitsweepError):
    """The user's input is wrong: a sweep file, an option, an unknown name."""


class UnknownName(InputError):
    """Something was asked for by a name that nothing has; names the nearest one."""


class UrlAway(InputError):
    """A URL for the files of trials is out of reach, or refuses, at this moment."""


class StoreError(BitsweepError):
    """The result database cannot be opened, read or written."""


class NoStore(StoreError):
    """There is no result database at that place yet: its first run makes it."""


class StoreAway(StoreError):
    """The result database is out of reach, or cannot write, at this moment: it may come back."""


class StoreLost(StoreError):
    """It did not come back: the run ended early. What it could not write lies in a journal."""


class Conflict(BitsweepError):
    """A measurement arrived again with other facts: two runs of one trial disagree."""


class Diverged(Exception):
    """Raised by a trainer when a loss or an activation is not finite; its trial is Diverged."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return " (did you mean 'x'?)" for the most similar known name, or "" when none is similar.

    >>> nearest("sampller", ["sampler", "seed"])
    " (did you mean 'sampler'?)"
    >>> nearest("zzz", ["sampler"])
    ''
    """
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1)
    return f" (did you mean '{found[0]}'?)" if found else ""
