"""A data set as it is decoded: images and labels of train and test, their digest and their file.

Knows nothing of splits, sources or torch.
"""

import os
import zipfile
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO
from uuid import uuid4

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Images uint8 (N, C, H, W) and their classes int64 (N,)."""

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.labels.dtype != np.int64:
            raise ValueError(
                f"expected uint8 images and int64 labels, got {self.images.dtype} and "
                f"{self.labels.dtype}"
            )
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"expected images (N, C, H, W) and N labels, got {self.images.shape} and "
                f"{self.labels.shape}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawArrays:
    """What a source gives: its train and its test set, in its order."""

    train: Labelled
    test: Labelled

    def by_name(self) -> dict[str, Images | Labels]:
        """The four arrays in the order of the digest."""
        return {
            "train_images": self.train.images,
            "train_labels": self.train.labels,
            "test_images": self.test.images,
            "test_labels": self.test.labels,
        }

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over "dtype shape", a line feed and the bytes of each array, in order."""
        digest = sha256()
        for array in self.by_name().values():
            digest.update(f"{array.dtype.name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def write_npz(path: Path, arrays: RawArrays, *, is_compressed: bool) -> None:
    """Write the file whole or not at all; equal arrays give equal bytes."""
    scratch = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with scratch.open("xb") as file:
            _write_zip(file, arrays, zipfile.ZIP_DEFLATED if is_compressed else zipfile.ZIP_STORED)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _write_zip(file: IO[bytes], arrays: RawArrays, compression: int) -> None:
    with zipfile.ZipFile(file, "w", compresslevel=9) as archive:
        for name, array in arrays.by_name().items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=ZIP_EPOCH)
            entry.compress_type = compression
            with archive.open(entry, "w") as member:
                npy.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def read_npz(path: Path) -> RawArrays:
    """The inverse of `write_npz`; raise ValueError for a file that is none, OSError as open."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return RawArrays(
                train=Labelled(images=file["train_images"], labels=file["train_labels"]),
                test=Labelled(images=file["test_images"], labels=file["test_labels"]),
            )
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} holds no data set: {error}") from error
