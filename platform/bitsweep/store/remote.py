"""Files at a URL that fsspec reads (s3://, gs://, file://, ...): the one place that opens it.

Every file arrives whole or not at all. What is copied when, `bitsweep.execution.remote` says.
"""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bitsweep.errors import InputError


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
        """The text of a file; None if there is none; raise InputError if the URL is away."""
        found = self._cat(name, None)
        return None if found is None else found.decode("utf-8", errors="replace")

    def tail(self, name: str, *, num_bytes: int) -> bytes | None:
        """The last bytes of a file, which alone are sent; None and InputError as in `read`."""
        return self._cat(name, num_bytes)

    def _cat(self, name: str, num_bytes: int | None) -> bytes | None:
        path = self._at(name)
        try:
            size = self._files.info(path)["size"]  # not `isfile`: it takes a dead line for "no"
            start = None if size is None or num_bytes is None else max(0, size - num_bytes)
            return bytes(self._files.cat_file(path, start=start or None))
        except FileNotFoundError as error:
            if _is_about_the_line(error.__cause__):
                raise self._away(error.__cause__) from error
            return None
        # Each of fsspec's file systems raises what its library does: botocore's are no OSError.
        except Exception as error:
            raise self._away(error) from error

    def _away(self, error: BaseException | None) -> InputError:
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        user = urlsplit(self.url).netloc.rpartition("@")[0]
        said = said.replace(user, "***") if user else said
        return InputError(f"{shown_url(self.url)} cannot be read: {said}")

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
