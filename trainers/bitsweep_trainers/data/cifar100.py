"""CIFAR-100: the official python archive, whose two pickles are checked and read as arrays."""

import codecs
import pickle
import tarfile
from collections.abc import Mapping
from hashlib import md5
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from bitsweep_trainers.data.arrays import Labelled, RawArrays
from bitsweep_trainers.data.cifar import SHAPE, read_member
from bitsweep_trainers.data.declared import CIFAR100_MD5

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("_codecs", "encode"): codecs.encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Plain(pickle.Unpickler):
    """Refuses everything but arrays: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(f"the archive holds an object {module}.{name}")
        return _ALLOWED[module, name]


def read_python_tar(path: Path, checksums: Mapping[str, str] = CIFAR100_MD5) -> RawArrays:
    """Read cifar-100-python.tar.gz; ValueError when a member is not the official one."""
    with tarfile.open(path) as archive:
        parts = {
            name: _labelled(read_member(archive, f"cifar-100-python/{name}"), name, expected)
            for name, expected in checksums.items()
        }
    return RawArrays(train=parts["train"], test=parts["test"])


def _labelled(content: bytes, name: str, expected: str) -> Labelled:
    found = md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(f"{name} of CIFAR-100 has MD5 {found}, expected {expected}")
    document = _Plain(BytesIO(content), encoding="bytes").load()
    images = np.asarray(document[b"data"], dtype=np.uint8).reshape(-1, *SHAPE)
    labels = np.asarray(document[b"fine_labels"], dtype=np.int64)
    return Labelled(images=np.ascontiguousarray(images), labels=labels)
