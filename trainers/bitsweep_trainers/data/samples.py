"""Series or vectors as they are read from a file: the record, its parts, and what it may hold.

Free of torch and of file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitsweep.declaration import DataKind

PARTS = ("train", "validation", "test")
SPLIT_RULE = (
    "the column or array split where there is one; else, of the samples of each class in the "
    "order of the file (of all samples where there are no classes), the last fifth tests and "
    "the last tenth of the others validates"
)
_AXES = {"series": "(N, C, L)", "vectors": "(N, numbers)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Series float32 (N, C, L) with classes int64 (N,), or vectors float32 (N, numbers).

    Vectors are complex: the real parts, then the imaginary ones; their targets are they
    themselves. `part` is the index in PARTS of each sample. ValueError for samples that nothing
    can be learned from: none at all, values that are not finite, a part or a class without any.
    """

    kind: DataKind
    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    part: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != (3 if self.kind == "series" else 2) or not self.values.size:
            message = f"expected {self.kind} {_AXES[self.kind]} with at least one of each"
            raise ValueError(f"{message}, got {self.values.shape}")
        for name, one in (("labels", self.labels), ("split", self.part)):
            if one.shape != self.values.shape[:1]:
                expected = f"one for each of the {len(self.values)} samples"
                raise ValueError(f"{name} of shape {one.shape}: expected {expected}")
        _check_values(self.kind, self.values)
        for index, name in enumerate(PARTS):
            if not (self.part == index).any():
                raise ValueError(f"no sample is of the part {name}; expected all of {PARTS}")
        if self.kind == "series":
            _check_classes(self.labels, self.labels[self.part == 0])

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over kind, shapes and bytes of values, labels and parts."""
        digest = sha256(self.kind.encode())
        for array in (self.values, self.labels, self.part):
            digest.update(f"{array.dtype.name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def series(values: NDArray[Any], labels: NDArray[Any], split: Sequence[object] | None) -> Samples:
    """Series (N, L) or (N, C, L) of real numbers; ValueError for any other."""
    shaped = values[:, None] if values.ndim == 2 else values
    if labels.ndim != 1:
        raise ValueError(f"labels of shape {labels.shape}: expected (N,), a class for each sample")
    classes = whole_labels(labels)
    return Samples(
        kind="series",
        values=_single_precision(shaped, "series"),
        labels=classes,
        part=parts_of(classes) if split is None else _named_parts(split),
    )


def vectors(values: NDArray[Any], split: Sequence[object] | None) -> Samples:
    """Complex vectors (N, M); ValueError for any other."""
    if values.ndim != 2 or not np.iscomplexobj(values):
        raise ValueError(f"expected complex vectors (N, M), got {values.dtype} {values.shape}")
    both = np.concatenate([values.real, values.imag], axis=1)
    none = np.zeros(len(values), np.int64)
    return Samples(
        kind="vectors",
        values=_single_precision(both, "vectors"),
        labels=none,
        part=parts_of(none) if split is None else _named_parts(split),
    )


def whole_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as int64; ValueError for those that are no whole numbers.

    >>> whole_labels(np.array([0.0, 1.0])).tolist()
    [0, 1]
    """
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"labels are whole numbers from 0, got {labels.dtype}")
    odd = ~((labels >= 0) & (labels < 2**31) & (labels == np.floor(labels)))
    if odd.any():
        raise ValueError(f"labels are whole numbers from 0, got {labels[odd].flat[0]}")
    return labels.astype(np.int64)


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


def _single_precision(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """What is beyond float32 becomes infinite, and is refused as such."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} are real numbers, got {values.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _named_parts(split: Sequence[object]) -> NDArray[np.int64]:
    unknown = next((one for one in split if one not in PARTS), None)
    if unknown is not None:
        raise ValueError(f"split {unknown!r} is unknown; expected {', '.join(PARTS)}")
    return np.array([PARTS.index(str(one)) for one in split], dtype=np.int64)


def _check_values(kind: DataKind, values: NDArray[np.float32]) -> None:
    odd = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if odd.any():
        where = f"sample {np.flatnonzero(odd)[0]} (from 0)"
        raise ValueError(f"a value of {where} is not finite, or beyond the range of float32")
    if kind == "vectors" and not (lengths := np.abs(values).max(axis=1)).all():
        where = f"vector {np.flatnonzero(lengths == 0)[0]} (from 0)"
        raise ValueError(f"{where} is zero: errors are measured relative to a vector's length")


def _check_classes(labels: NDArray[np.int64], trained: NDArray[np.int64]) -> None:
    """Each class from 0 to the largest has samples, also of the training part."""
    present, largest = np.unique(labels), int(labels.max())
    if len(present) <= largest:
        absent = int(np.setdiff1d(np.arange(len(present) + 1), present)[0])
        message = f"no sample has the label {absent}, and some have {largest}: number the "
        raise ValueError(f"{message}{len(present)} classes 0 to {len(present) - 1}")
    if largest == 0:
        raise ValueError("expected at least 2 classes, got the label 0 alone")
    untrained = np.setdiff1d(present, trained)
    if len(untrained):
        message = f"no sample of class {untrained[0]} is of the part train"
        raise ValueError(f"{message}: without a split a class needs at least 3 samples")
