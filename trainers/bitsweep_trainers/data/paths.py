"""Data sets named by a path: series in a CSV or npz, complex vectors in an npz, image folders.

Declares them; free of torch. What the files may look like stands in docs/models-and-data.md.
"""

from pathlib import Path

from bitsweep.declaration import DataDeclaration
from bitsweep.errors import InputError
from bitsweep_trainers.data.image_folder import declare_folder, folder_and_size
from bitsweep_trainers.data.sample_files import read_samples
from bitsweep_trainers.data.samples import PARTS, SPLIT_RULE


def data_of_path(path: Path) -> DataDeclaration:
    """Declare what lies at a path; InputError that names it when it is no data set."""
    folder, size = folder_and_size(path)
    if _is_folder(folder):
        return declare_folder(folder, size)
    samples = read_samples(path)
    is_series = samples.kind == "series"
    return DataDeclaration(
        name=path.name,
        title=f"{len(samples.values)} {samples.kind} of {path.name}",
        source=str(path.name),
        sha256=samples.sha256,
        shape=samples.values.shape[1:],
        classes=int(samples.labels.max()) + 1 if is_series else samples.values.shape[1],
        sizes={name: int((samples.part == index).sum()) for index, name in enumerate(PARTS)},
        split_rule=SPLIT_RULE,
        kind=samples.kind,
        path=str(path),
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
