"""Files of trials at a URL that fsspec reads (s3://, gs://, file://, ...): copied in and out.

For clusters without a shared folder. A worker copies a workspace in before a trial starts and out
after each evaluation, before it is sent; every file arrives whole or not at all.
"""

import os
import tempfile
from hashlib import sha256
from pathlib import Path

from bitsweep.store.remote import Remote

# How long a worker asks anew for the files of its trial before that is interrupted.
REMOTE_PATIENCE_SECONDS = 300.0


def cache_folder(url: str, base: Path) -> Path:
    """Where this machine keeps its copies of a URL's files."""
    return base / f"bitsweep-{sha256(url.encode()).hexdigest()[:16]}"


def home_folder(url: str) -> Path:
    """What a driver keeps here where files lie at a URL; it outlives a restart of the machine.

    In the user's folder of state (XDG_STATE_HOME), or beside the copies where that is read-only.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    there = next(one for one in (state, *state.parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        state = Path(tempfile.gettempdir())
    return cache_folder(url, state)


class Synchronised:
    """A local folder and its copy at a URL: pull once, then push what changed."""

    def __init__(self, remote: Remote, name: str, folder: Path) -> None:
        self._remote = remote
        self._name = name
        self._folder = folder
        self._pushed: dict[str, tuple[int, int]] = {}

    def pull(self) -> None:
        """Bring what earlier lives left."""
        self._remote.get_folder(self._name, self._folder)
        self._pushed = self._now()

    def push(self) -> None:
        """Send every file that changed since; scratch files stay here."""
        for relative, stamp in self._now().items():
            if self._pushed.get(relative) != stamp:
                self._remote.put(self._folder / relative, f"{self._name}/{relative}")
                self._pushed[relative] = stamp

    def _now(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self._folder.rglob("*")):
            if path.is_file() and path.suffix not in {".part", ".tmp"}:
                seen = path.stat()
                found[path.relative_to(self._folder).as_posix()] = (seen.st_mtime_ns, seen.st_size)
        return found
