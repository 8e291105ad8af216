"""What a run shows while it lasts: a live line on a terminal, one line per trial in a pipe."""

import sys
from time import monotonic
from types import TracebackType
from typing import Any

from bitsweep.execution.progress import Progress


class QuietDisplay:
    """One line to standard error when a trial ends; nothing at all when silent."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self._is_silent = is_silent
        self._begin = monotonic()

    def __enter__(self) -> "QuietDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to end."""

    def show(self, progress: Progress) -> None:
        """Print the event of a trial's end."""
        if self._is_silent or not progress.event or progress.event.startswith("started"):
            return
        over = progress.finished + progress.failed + progress.pruned
        minutes, seconds = divmod(int(monotonic() - self._begin), 60)
        line = f"[{minutes:02d}:{seconds:02d}] {over}/{progress.planned} {progress.event}"
        print(line, file=sys.stderr, flush=True)


class LiveDisplay:
    """A bar with counts, the best so far and the time left, redrawn in place."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=Console(stderr=True),
        )
        self._task: Any = self._bar.add_task(name, total=None, detail="starting")
        self._begin = monotonic()

    def __enter__(self) -> "LiveDisplay":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Redraw; failures also stay as lines above the bar."""
        over = progress.finished + progress.failed + progress.pruned
        self._bar.update(
            self._task, completed=over, total=progress.planned, detail=self._detail(progress, over)
        )
        if progress.event.startswith(("failed", "diverged")):
            self._bar.console.print(progress.event, style="red", markup=False, highlight=False)

    def _detail(self, progress: Progress, over: int) -> str:
        parts = [f"{progress.running} running"]
        if progress.failed:
            parts.append(f"[red]{progress.failed} failed[/red]")
        if progress.pruned:
            parts.append(f"{progress.pruned} pruned")
        if progress.best:
            choose = min if progress.goal == "minimize" else max
            arm, value = choose(progress.best, key=lambda item: item[1])
            parts.append(f"best {arm} {value:.4g}")
        ran = over - progress.reused
        if ran > 0 and progress.planned > over:
            left = (monotonic() - self._begin) / ran * (progress.planned - over)
            parts.append(
                f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"
            )
        return ", ".join(parts)
