"""Files at a URL that fsspec reads (s3://, gs://, file://, ...): the one place that opens it.

Every file arrives whole or not at all. Nothing that was listed is remembered: other machines put
files there too, and s3fs, left alone, goes on saying that there are none. What is copied when,
`bitsweep.execution.remote` says.
"""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from bitsweep.errors import InputError, UrlAway

# Folders are no things there, and what is put appears when all of it has arrived.
OBJECT_STORES = frozenset({"abfs", "abfss", "az", "gcs", "gs", "oci", "oss", "s3", "s3a"})
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
T = TypeVar("T")


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a folder."""
    return "://" in place


def shown_url(url: str) -> str:
    """A URL as it may be shown: what stands before its host becomes three stars.

    >>> shown_url("ftp://ada:secret@host/logs")
    'ftp://***@host/logs'
    """
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    return url.replace(f"{user}@", "***@", 1) if at else url


def _is_about_the_line(cause: BaseException | None) -> bool:
    """Whether a file was "not found" because nobody answered: so fsspec puts it over HTTP."""
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)


def check_url(url: str) -> None:
    """Raise InputError for a URL of a kind that fsspec does not open here; asks nobody."""
    import fsspec

    try:
        fsspec.get_filesystem_class(url.partition("://")[0].partition("::")[0])
    except (ImportError, ValueError) as error:
        raise InputError(f"--workspaces {shown_url(url)}: {error}") from error


class Remote:
    """The tree below one URL; names are relative to it, with "/"."""

    def __init__(self, url: str, *, patience_seconds: float = 0.0) -> None:
        """Raise InputError for a URL that fsspec cannot open (often a package is missing).

        patience_seconds: for how long to ask again before every method raises UrlAway.
        """
        import fsspec

        try:
            self._files: Any = fsspec.url_to_fs(url)[0]  # fsspec has no types here
            self._root = str(fsspec.url_to_fs(url)[1]).rstrip("/")
        except (ImportError, ValueError, OSError) as error:
            raise InputError(f"--workspaces {shown_url(url)}: {error}") from error
        protocols = self._files.protocol
        named = {protocols} if isinstance(protocols, str) else set(protocols)
        self._has_folders = not named & OBJECT_STORES
        self._patience_seconds = patience_seconds
        self.url = url

    def check_writable(self) -> None:
        """Raise UrlAway where a file cannot be put, read again and deleted."""
        name, probe = f"probe-{uuid4().hex}", b"bitsweep looks whether it can write here\n"
        path = self._at(name)
        try:
            self._ask(lambda: self._make_folder_of(path))
            self._ask(lambda: self._files.pipe_file(path, probe))
            found = self._cat(name, None)
            self._ask(lambda: self._files.rm_file(path))
        except FileNotFoundError as error:  # no such bucket
            raise self._away(error) from error
        if found != probe:
            raise UrlAway(f"{shown_url(self.url)}: a file that was put there is not found again")

    def get(self, name: str, target: Path) -> bool:
        """Copy a file here, whole or not at all; False if there is none."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            self._ask(lambda: self._files.get_file(self._at(name), str(partial)))
            partial.replace(target)
        except FileNotFoundError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    def put(self, source: Path, name: str) -> None:
        """Copy a file there; no reader sees half of it."""
        target = self._at(name)
        partial = f"{target}.{socket.gethostname()}.{os.getpid()}.part"

        def put() -> None:
            if self._has_folders:
                self._make_folder_of(target)
                self._files.put_file(str(source), partial)
                self._files.mv(partial, target)
            else:
                self._files.put_file(str(source), target)

        try:
            self._ask(put)
        except FileNotFoundError as error:
            raise self._away(error) from error

    def read(self, name: str) -> str | None:
        """The text of a file; None if there is none."""
        found = self._cat(name, None)
        return None if found is None else found.decode("utf-8", errors="replace")

    def tail(self, name: str, *, num_bytes: int) -> bytes | None:
        """The last bytes of a file, which alone are sent; None if there is none."""
        return self._cat(name, num_bytes)

    def get_folder(self, name: str, target: Path) -> None:
        """Copy the files of a folder here; those that are being written are left out."""
        root = self._at(name)
        try:
            found = self._ask(lambda: self._files.find(root))
        except FileNotFoundError:
            return
        for path in found:
            if not path.endswith(".part"):
                relative = str(path)[len(root) :].lstrip("/")
                self.get(f"{name}/{relative}", target / relative)

    def remove(self, name: str) -> None:
        """Delete a file or a folder, if it is there."""
        try:
            self._ask(lambda: self._files.rm(self._at(name), recursive=True))
        except FileNotFoundError:
            return

    def _cat(self, name: str, num_bytes: int | None) -> bytes | None:
        path = self._at(name)

        def cat() -> bytes:
            size = self._files.info(path)["size"]  # not `isfile`: it takes a dead line for "no"
            start = None if size is None or num_bytes is None else max(0, size - num_bytes)
            return bytes(self._files.cat_file(path, start=start or None))

        try:
            return self._ask(cat)
        except FileNotFoundError:
            return None

    def _ask(self, do: Callable[[], T]) -> T:
        """What `do` finds; FileNotFoundError is an answer, as is a full disk of this machine."""
        deadline, pause = monotonic() + self._patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            self._files.invalidate_cache()
            try:
                return do()
            except Exception as error:  # what a file system's library raises: often no OSError
                if _is_answer(error):
                    raise
                left = deadline - monotonic()
                if left <= 0:
                    raise self._away(error) from error
            sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _away(self, error: Exception) -> UrlAway:
        about = error.__cause__ if _is_about_the_line(error.__cause__) else error
        said = (str(about).splitlines() or [""])[0] or type(about).__name__
        user = urlsplit(self.url).netloc.rpartition("@")[0]
        said = said.replace(user, "***") if user else said
        return UrlAway(f"{shown_url(self.url)} cannot be reached: {said}")

    def _make_folder_of(self, path: str) -> None:
        if self._has_folders:  # s3fs would make a bucket that was misspelt
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def _is_answer(error: Exception) -> bool:
    """Whether it says something of files rather than of the line to them."""
    if isinstance(error, FileNotFoundError):
        return not _is_about_the_line(error.__cause__)
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
