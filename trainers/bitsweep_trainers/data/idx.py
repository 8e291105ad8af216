"""The IDX files of MNIST and Fashion-MNIST: their checksums and how they are read."""

import gzip
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bitsweep_trainers.data.arrays import Images, Labelled, RawArrays

UBYTE_MAGIC = 0x0800
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
Checksums = Mapping[str, str]
MNIST: Checksums = MappingProxyType(
    dict(
        zip(
            FILES,
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            strict=True,
        )
    )
)
FASHION_MNIST: Checksums = MappingProxyType(
    dict(
        zip(
            FILES,
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            strict=True,
        )
    )
)


def read_idx(content: bytes) -> Images:
    """The unsigned bytes of one IDX file, in its shape; ValueError for anything else.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])).tolist()
    [7, 9]
    """
    magic = int.from_bytes(content[:4], "big")
    if magic >> 8 != UBYTE_MAGIC >> 8:
        raise ValueError(f"expected an IDX file of unsigned bytes, got magic {magic:#010x}")
    start = 4 + 4 * (magic & 0xFF)
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(np.int64)
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def assemble(read: Callable[[str], bytes], checksums: Checksums) -> RawArrays:
    """Read the four files by their names, unpacked; ValueError when a checksum is wrong."""
    contents = []
    for name, expected in checksums.items():
        content = read(name)
        found = sha256(content).hexdigest()
        if found != expected:
            raise ValueError(f"{name} has SHA-256 {found}, expected {expected}")
        contents.append(read_idx(content))
    train_images, train_labels, test_images, test_labels = contents
    return RawArrays(
        train=Labelled(images=train_images[:, None], labels=train_labels.astype(np.int64)),
        test=Labelled(images=test_images[:, None], labels=test_labels.astype(np.int64)),
    )


def read_gz_folder(folder: Path, checksums: Checksums) -> RawArrays:
    """Read a folder of FILE.gz; ValueError when a checksum is wrong, OSError as open."""
    return assemble(lambda name: gzip.decompress((folder / f"{name}.gz").read_bytes()), checksums)
