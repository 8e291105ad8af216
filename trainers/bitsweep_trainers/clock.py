"""The seconds that a training took, over all processes that it ran in."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """Runs while something learns and stands while something is measured or written.

    seconds: what earlier processes took.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Those of before and of the blocks so far, the running one included."""
        return self._before + (0.0 if self._began is None else perf_counter() - self._began)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The block counts, also one that fails."""
        self._began = perf_counter()
        try:
            yield
        finally:
            self._before, self._began = self.seconds, None
