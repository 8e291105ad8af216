"""Files of trials at a URL that fsspec reads (s3://, gs://, file://, ...): copied in and out.

For clusters without a shared folder. A worker copies a workspace in before a trial starts and out
after each evaluation, before it is sent; every file arrives whole or not at all.
"""

import os
import socket
from hashlib import sha256
from pathlib import Path
from typing import Any

from bitsweep.errors import InputError


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a folder."""
    return "://" in place


class Remote:
    """The tree below one URL; names are relative to it, with "/"."""

    def __init__(self, url: str) -> None:
        """Raise InputError for a URL that fsspec cannot open (often a package is missing)."""
        import fsspec

        try:
            self._files: Any = fsspec.url_to_fs(url)[0]  # fsspec has no types here
            self._root = str(fsspec.url_to_fs(url)[1]).rstrip("/")
        except (ImportError, ValueError, OSError) as error:
            raise InputError(f"--workspaces {url}: {error}") from error
        self.url = url

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._files.isfile(self._at(name)))

    def get(self, name: str, target: Path) -> bool:
        """Copy a file here, whole or not at all; False if there is none."""
        if not self.has(name):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        self._files.get_file(self._at(name), str(partial))
        partial.replace(target)
        return True

    def put(self, source: Path, name: str) -> None:
        """Copy a file there: under another name first, so that no reader sees half of it."""
        target = self._at(name)
        partial = f"{target}.{socket.gethostname()}.{os.getpid()}.part"
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._files.put_file(str(source), partial)
        self._files.mv(partial, target)

    def read(self, name: str) -> str | None:
        """The text of a file; None if there is none."""
        return str(self._files.cat_file(self._at(name)).decode()) if self.has(name) else None

    def get_folder(self, name: str, target: Path) -> None:
        """Copy the files of a folder here; those that are being written are left out."""
        root = self._at(name)
        if not self._files.isdir(root):
            return
        self._files.invalidate_cache()
        for path in self._files.find(root):
            if not path.endswith(".part"):
                relative = str(path)[len(root) :].lstrip("/")
                self.get(f"{name}/{relative}", target / relative)

    def remove(self, name: str) -> None:
        """Delete a file or a folder, if it is there."""
        if self._files.exists(self._at(name)):
            self._files.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def cache_folder(url: str, base: Path) -> Path:
    """Where this machine keeps its copies of a URL's files."""
    return base / f"bitsweep-{sha256(url.encode()).hexdigest()[:16]}"


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
