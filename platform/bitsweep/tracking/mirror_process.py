"""The mirror as a process beside a run: off the critical path, harmless when it fails."""

import os
import subprocess
import sys
from types import TracebackType

CATCH_UP_SECONDS = 120.0
HASTY_SECONDS = 15.0


class MirrorProcess:
    """Follows the store while the block runs, then catches up; `lag` says what it could not do."""

    def __init__(
        self, store: str, mlflow_uri: str | None, sweep: str, *, checkpoints: str
    ) -> None:
        """checkpoints: the folder or URL of kept ones, which the runs refer to."""
        self._command = [sys.executable, "-m", "bitsweep.mirroring", store, mlflow_uri or ""]
        self._command += [sweep, checkpoints]
        self._is_wanted = mlflow_uri is not None
        self._process: subprocess.Popen[str] | None = None
        self._is_over = False
        self._patience = CATCH_UP_SECONDS
        self.lag: str | None = None

    def __enter__(self) -> "MirrorProcess":
        if self._is_wanted:
            # A session of its own: Ctrl-C is for the driver, which then closes the pipe.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        return self

    def finish(self) -> None:
        """Tell it that nothing more comes: it catches up and ends."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def hurry(self) -> None:
        """The user has interrupted and waits; `bitsweep mirror` does what is left."""
        self._patience = HASTY_SECONDS

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait()

    def wait(self) -> None:
        """Until MLflow holds everything, or `lag` says what it does not; again: nothing."""
        if self._process is None or self._is_over:
            return
        self.finish()
        try:
            code = self._process.wait(timeout=self._patience)
            if code != 0:
                complaint = self._process.stderr.read() if self._process.stderr else ""
                lines = [line for line in complaint.splitlines() if line.strip()]
                self.lag = lines[-1] if lines else f"ended with {code}"
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.lag = f"did not catch up within {self._patience:g} s"
        self._is_over = True
