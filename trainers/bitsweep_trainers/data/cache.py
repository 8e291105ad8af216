"""Where data sets lie on this machine, and whether what lies there is what was declared."""

import os
from pathlib import Path

from bitsweep.errors import UnknownName, nearest
from bitsweep.trainer import DataDeclaration
from bitsweep_trainers.data.arrays import RawArrays, read_npz
from bitsweep_trainers.data.declared import DATA_SETS

FOLDER_VARIABLE = "BITSWEEP_DATA"


def declaration(name: str) -> DataDeclaration:
    """The data set of that name; raise UnknownName if there is none."""
    if name not in DATA_SETS:
        hint = nearest(name, list(DATA_SETS))
        raise UnknownName(f"unknown data set {name!r}{hint}; known: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def data_folder() -> Path:
    """$BITSWEEP_DATA, or else ~/.cache/bitsweep/data."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "bitsweep" / "data"


def data_path(data: DataDeclaration, folder: Path | None = None) -> Path:
    """Its file: in the package when it is shipped, else in `folder` (None: `data_folder()`)."""
    if data.is_shipped:
        return Path(__file__).parent / f"{data.name.replace('-', '_')}.npz"
    return (data_folder() if folder is None else folder) / f"{data.name}.npz"


def read_verified(path: Path, sha256: str) -> RawArrays:
    """The arrays of a file; ValueError when they are not those of the digest, OSError as open."""
    arrays = read_npz(path)
    found = arrays.sha256
    if found != sha256:
        raise ValueError(f"{path} holds arrays of SHA-256 {found}, expected {sha256}")
    return arrays
