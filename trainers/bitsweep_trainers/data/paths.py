"""Data sets named by a path: series in a CSV or npz, complex vectors in an npz, image folders.

Declares and reads; free of torch. What the files may look like stands in docs/models-and-data.md.
"""

import csv
import zipfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitsweep.errors import InputError
from bitsweep.trainer import DataDeclaration, DataKind
from bitsweep_trainers.data.image_folder import declare_folder, folder_and_size

PARTS = ("train", "validation", "test")
SPLIT_RULE = (
    "the column or array split where there is one; else, of the samples of each class in the "
    "order of the file (of all samples where there are no classes), the last fifth tests and "
    "the last tenth of the others validates"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Series float32 (N, C, L) with classes int64 (N,), or vectors float32 (N, numbers).

    Vectors are complex: the real parts, then the imaginary ones; their targets are they
    themselves. `part` is the index in PARTS of each sample.
    """

    kind: DataKind
    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    part: NDArray[np.int64]

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over kind, shapes and bytes of values, labels and parts."""
        digest = sha256(self.kind.encode())
        for array in (self.values, self.labels, self.part):
            digest.update(f"{array.dtype.name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def data_of_path(path: Path) -> DataDeclaration:
    """Declare what lies at a path; InputError that names it when it is no data set."""
    folder, size = folder_and_size(path)
    if folder.is_dir():
        return declare_folder(folder, size)
    samples = read_samples(path)
    counts = {name: int((samples.part == index).sum()) for index, name in enumerate(PARTS)}
    for name, count in counts.items():
        if count == 0:
            raise InputError(f"{path}: no sample is of the part {name}; expected all of {PARTS}")
    is_series = samples.kind == "series"
    return DataDeclaration(
        name=path.name,
        title=f"{len(samples.values)} {samples.kind} of {path.name}",
        source=str(path.name),
        sha256=samples.sha256,
        shape=samples.values.shape[1:],
        classes=int(samples.labels.max()) + 1 if is_series else samples.values.shape[1],
        sizes=counts,
        split_rule=SPLIT_RULE,
        kind=samples.kind,
        path=str(path),
    )


def read_samples(path: Path) -> Samples:
    """Read a CSV or npz file, once for each version of it; InputError for any other content."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return _read(path, stat.st_mtime_ns, stat.st_size)


@cache
def _read(path: Path, _modified_ns: int, _size: int) -> Samples:
    if path.suffix == ".csv":
        return _checked(_read_csv(path), path)
    if path.suffix == ".npz":
        return _checked(_read_npz(path), path)
    raise InputError(f"{path}: expected a .csv, a .npz or a folder with train/ and val/")


def _read_csv(path: Path) -> Samples:
    """A header with `label` (and maybe `split`); every other column is a number of the series."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "label" not in rows[0]:
        raise InputError(f"{path}: expected a header with a column label, and rows under it")
    names = [name for name in rows[0] if name not in ("label", "split")]
    try:
        values = np.array([[float(row[name]) for name in names] for row in rows], np.float32)
        labels = np.array([int(row["label"]) for row in rows])
        split = [row["split"] for row in rows] if "split" in rows[0] else None
        return _samples("series", values[:, None], labels, split)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def _read_npz(path: Path) -> Samples:
    """`series` (N, L) or (N, C, L) with `labels`, or complex `vectors` (N, M); maybe `split`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        split = arrays["split"].tolist() if "split" in arrays else None
        if "vectors" in arrays:
            return _vectors(arrays["vectors"], split)
        series = arrays["series"].astype(np.float32)
        shaped = series[:, None] if series.ndim == 2 else series
        return _samples("series", shaped, arrays["labels"], split)
    except KeyError as error:
        known = "series and labels, or vectors"
        raise InputError(f"{path}: it has no array {error}; expected {known}") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {error}") from error


def _vectors(vectors: NDArray[Any], split: list[Any] | None) -> Samples:
    if vectors.ndim != 2 or not np.iscomplexobj(vectors):
        raise ValueError(f"expected complex vectors (N, M), got {vectors.dtype} {vectors.shape}")
    values = np.concatenate([vectors.real, vectors.imag], axis=1).astype(np.float32)
    return _samples("vectors", values, np.zeros(len(values), np.int64), split)


def _samples(
    kind: DataKind, values: NDArray[np.float32], labels: NDArray[Any], split: list[Any] | None
) -> Samples:
    classes = np.asarray(labels).astype(np.int64)
    if values.ndim != (3 if kind == "series" else 2) or classes.shape != values.shape[:1]:
        raise ValueError(f"got values {values.shape} with labels {classes.shape}")
    part = parts_of(classes) if split is None else _named_parts(split)
    return Samples(kind=kind, values=values, labels=classes, part=part)


def _named_parts(split: list[Any]) -> NDArray[np.int64]:
    unknown = next((one for one in split if one not in PARTS), None)
    if unknown is not None:
        raise ValueError(f"split {unknown!r} is unknown; expected {', '.join(PARTS)}")
    return np.array([PARTS.index(one) for one in split], dtype=np.int64)


def parts_of(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part of each sample by SPLIT_RULE.

    >>> parts_of(np.zeros(10, dtype=np.int64)).tolist()
    [0, 0, 0, 0, 0, 0, 0, 1, 2, 2]
    """
    part = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        num_test = max(1, len(positions) // 5)
        num_validation = max(1, (len(positions) - num_test) // 10)
        part[positions[-num_test:]] = 2
        part[positions[-num_test - num_validation : -num_test]] = 1
    return part


def _checked(samples: Samples, path: Path) -> Samples:
    if not np.isfinite(samples.values).all():
        raise InputError(f"{path}: a value is not finite")
    if samples.labels.min() < 0:
        raise InputError(f"{path}: classes are numbers from 0, got {samples.labels.min()}")
    return samples
