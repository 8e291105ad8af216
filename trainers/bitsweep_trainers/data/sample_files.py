"""Reads series from a CSV or an npz, and complex vectors from an npz; one line says what is wrong.

What the files may look like stands in docs/models-and-data.md.
"""

import csv
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitsweep.errors import InputError, nearest
from bitsweep_trainers.data.samples import Samples, series, vectors

OWN = ("label", "split")  # the columns of a CSV that are no points in time
# What zipfile, zlib and numpy raise for a file that is damaged, encrypted or none of theirs.
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_samples(path: Path) -> Samples:
    """Read a CSV or npz file, once for each version of it; InputError for any other content."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not S_ISREG(stat.st_mode):
        raise InputError(f"{path}: expected a file, or a folder with train/ and val/")
    return _read(path, stat.st_mtime_ns, stat.st_size)


@cache
def _read(path: Path, _modified_ns: int, _size: int) -> Samples:
    readers = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix not in readers:
        raise InputError(f"{path}: expected a .csv, a .npz or a folder with train/ and val/")
    try:
        return readers[path.suffix](path)
    except UnicodeDecodeError as error:
        where = f"byte {error.start} is {error.object[error.start]:#x}"
        raise InputError(f"{path}: it is not UTF-8 text ({where}): save it as UTF-8") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: {_one_line(error)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_csv(path: Path) -> Samples:
    """A header with `label` (and maybe `split`); every other column is a number of the series.

    A byte order mark, as Excel writes it, is skipped.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        _check_header(header)
        rows = list(_rows(reader, header))
    if not rows:
        raise ValueError("expected rows under the header, got none")
    columns = [n for n, name in enumerate(header) if name not in OWN]
    values = np.array([[_number(row[n]) for n in columns] for row in rows])
    place = header.index("label")
    labels = np.array([_class(row[place]) for row in rows])
    split = [row[header.index("split")] for row in rows] if "split" in header else None
    return series(values, labels, split)


def _check_header(header: list[str]) -> None:
    """ValueError for a header that leaves a column without a meaning of its own."""
    if "label" not in header:
        hint = nearest("label", header)
        raise ValueError(f"expected a header with a column label, separated by commas{hint}")
    if "" in header:
        place = header.index("") + 1
        message = "an index that was written too? with pandas: to_csv(..., index=False)"
        raise ValueError(f"column {place} has no name: {message}")
    twice = next((one for one in header if header.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"the column {twice!r} stands there twice; give each a name of its own")
    odd = next((one for one in header if one not in OWN and one.strip().lower() in OWN), None)
    if odd is not None:
        meant = odd.strip().lower()
        raise ValueError(f"the column {odd!r} would be a point in time: expected {meant!r}")
    if not set(header) - set(OWN):
        raise ValueError("it has no column of numbers; expected one per point in time")


def _rows(reader: Iterator[list[str]], header: Sequence[str]) -> Iterator[list[str]]:
    """The rows that are not empty; ValueError for one that is not as long as the header."""
    for number, row in enumerate(reader, start=1):
        if row and len(row) != len(header):
            message = f"row {number} under the header has {len(row)} values"
            raise ValueError(f"{message}, the header has {len(header)}")
        if row:
            yield row


def _number(text: str) -> float:
    """A number as CSV files have it; Python's own underscores are none."""
    if "_" in text:
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)


def _class(text: str) -> int:
    if not text.strip().isdecimal() or len(text) > 20:
        raise ValueError(f"labels are whole numbers from 0, got {text!r}")
    return int(text)


def _read_npz(path: Path) -> Samples:
    """`series` (N, L) or (N, C, L) with `labels`, or complex `vectors` (N, M); maybe `split`."""
    arrays = _arrays(path)
    if ("series" in arrays) == ("vectors" in arrays):
        found = ", ".join(sorted(arrays)) or "none"
        raise ValueError(f"expected the arrays series and labels, or vectors; got {found}")
    wanted = ("series", "labels") if "series" in arrays else ("vectors",)
    for name in wanted:
        if name not in arrays:
            hint = nearest(name, sorted(set(arrays) - set(wanted)))
            raise ValueError(f"it has no array {name!r}{hint}; expected series and labels")
    known = (*wanted, "split")
    unknown = next((one for one in sorted(arrays) if one not in known), None)
    if unknown is not None:
        hint = nearest(unknown, known)
        message = f"nothing reads the array {unknown!r}{hint}"
        raise ValueError(f"{message}; expected {', '.join(wanted)} and maybe split")
    split = np.atleast_1d(arrays["split"]).tolist() if "split" in arrays else None
    if "vectors" in arrays:
        return vectors(arrays["vectors"], split)
    return series(arrays["series"], arrays["labels"], split)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz by name; ValueError for a file that is none, or a damaged one."""
    arrays: dict[str, NDArray[Any]] | None = None
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise ValueError(f"it cannot be read as an npz: {_one_line(error)}") from error
    if arrays is None:
        raise ValueError("it is no npz: expected what numpy.savez writes, a zip of arrays")
    odd = next((name for name, one in arrays.items() if not isinstance(one, np.ndarray)), None)
    if odd is not None:
        raise ValueError(f"its member {odd!r} is no array; expected what numpy.savez writes")
    return arrays
