"""One file over HTTP, resumed where an earlier attempt broke off. Checks no content."""

import os
import re
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416

Progress = Callable[[int, int | None], None]


def download(url: str, path: Path, progress: Progress) -> Path:
    """Bring `url` to `path`; what is there so far lies in PATH.part and is kept on failure.

    A broken transfer is resumed for as long as each attempt brings bytes; else raise OSError.
    `progress` is told the bytes so far and the bytes in all, None where the server does not say.
    """
    part = path.with_name(path.name + ".part")
    while True:
        before = _size(part)
        try:
            is_whole = _transfer(url, part, progress)
        except (OSError, HTTPException) as error:
            if _size(part) <= before:
                raise OSError(f"{url}: {error}") from error
            continue
        if is_whole:
            part.replace(path)
            return path
        if _size(part) <= before:
            raise OSError(f"{url}: the connection ends after {before} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(url: str, part: Path, progress: Progress) -> bool:
    """Append what one connection brings; True when the file is whole.

    A server without ranges, or with another file than before, sends it from the start.
    """
    headers = {"Range": f"bytes={_size(part)}-"} if _size(part) else {}
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE:
            raise
        return _is_complete(part, error.headers.get("Content-Range", ""))
    with response:
        done, total = _extent(response)
        if done not in (0, _size(part)):
            raise OSError(f"the server continues at byte {done}, not at {_size(part)}")
        with part.open("r+b" if done else "wb") as file:
            file.truncate(done)
            file.seek(done)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    return total is None or done == total


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """(bytes before the content, bytes of the whole file or None) by the headers of an answer."""
    if response.status == PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if found is None:
            raise OSError("the server sends a part of the file and does not say which")
        return int(found[1]), int(found[2])
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _is_complete(part: Path, content_range: str) -> bool:
    """Nothing is left to send: the part is the whole file, or else it is not this file's part."""
    if content_range == f"bytes */{_size(part)}":
        return True
    part.unlink()
    raise OSError("the partial file does not fit the one on the server and is removed")
