"""Where data sets lie on this machine, and whether what lies there is what was declared."""

import os
from pathlib import Path

from bitsweep.declaration import DataDeclaration
from bitsweep.errors import UnknownName, nearest
from bitsweep.trial import Trial
from bitsweep_trainers.data.arrays import RawArrays, read_npz
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.data.paths import data_of_path

FOLDER_VARIABLE = "BITSWEEP_DATA"


def declaration(name: str) -> DataDeclaration:
    """The data set of that name; raise UnknownName if there is none."""
    if name not in DATA_SETS:
        hint = nearest(name, list(DATA_SETS))
        raise UnknownName(f"unknown data set {name!r}{hint}; known: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def data_of(trial: Trial) -> DataDeclaration:
    """What the trial's data set declares; one that is named by a path is read from there."""
    if trial.data_path is None:
        return declaration(trial.data)
    return data_of_path(Path(trial.data_path))


def data_folder() -> Path:
    """$BITSWEEP_DATA, or else ~/.cache/bitsweep/data."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "bitsweep" / "data"


def data_path(data: DataDeclaration, folder: Path | None = None) -> Path:
    """Its file: in the package when it is shipped, else in `folder` (None: `data_folder()`)."""
    if data.is_shipped:
        return Path(__file__).parent / f"{data.name.replace('-', '_')}.npz"
    return (data_folder() if folder is None else folder) / f"{data.name}.npz"


def expected_sha256(data: DataDeclaration, path: Path) -> str:
    """The digest of the arrays in a file: declared, or else noted beside it when it was fetched.

    OSError where no note lies beside it.
    """
    if data.identified_by == "arrays":
        return data.sha256
    return noted_beside(path).read_text(encoding="ascii").strip()


def noted_beside(path: Path) -> Path:
    """Where the digest stands of arrays whose source was verified by its own checksums."""
    return path.with_name(f"{path.name}.sha256")


def read_verified(path: Path, sha256: str) -> RawArrays:
    """The arrays of a file; ValueError when they are not those of the digest, OSError as open."""
    arrays = read_npz(path)
    found = arrays.sha256
    if found != sha256:
        raise ValueError(f"{path} holds arrays of SHA-256 {found}, expected {sha256}")
    return arrays
