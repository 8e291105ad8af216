"""What `bitsweep data` needs of this package: is a data set here, and bring it."""

from collections.abc import Callable
from pathlib import Path

from bitsweep_trainers.data.cache import data_folder, data_path, declaration
from bitsweep_trainers.data.fetch import fetch as fetch_into


def is_present(name: str) -> bool:
    """Whether the file of the data set exists; its content is verified when it is loaded."""
    return data_path(declaration(name)).is_file()


def fetch(name: str, progress: Callable[[int, int | None], None]) -> Path:
    """Fetch, verify and keep a data set in the data folder; InputError when nothing answers."""
    data = declaration(name)
    if data.is_shipped:
        return data_path(data)
    return fetch_into(name, data_folder(), progress)
