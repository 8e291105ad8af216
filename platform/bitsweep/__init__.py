"""bitsweep: sweeps for neural-network quantization research. Importing it loads nothing heavy.

In a notebook: `bitsweep.open("results/bitsweep.db").results("quickstart")` is a DataFrame.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitsweep.notebook import Results

__version__ = "0.1.0"
__all__ = ["open", "__version__"]


def open(store: str | None = None) -> "Results":  # noqa: A001  # as in gzip.open: used qualified
    """The results of a store (a file or a database URL) as DataFrames, read-only.

    None: the store of BITSWEEP_STORE, else results/bitsweep.db. Raises StoreError for no store.
    """
    opened: Results = import_module("bitsweep.notebook").open_results(store)
    return opened
