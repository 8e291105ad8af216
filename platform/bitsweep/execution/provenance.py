"""Where numbers come from: code, packages and machine. Not part of a trial's identity."""

import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

PACKAGES = ("bitsweep", "torch", "numpy", "ray", "optuna", "mlflow", "sqlalchemy")


def describe() -> dict[str, Any]:
    """The columns of the table `provenance` for this process."""
    commit = _git("rev-parse", "HEAD")
    diff = _git("diff", "HEAD")
    return {
        "git_commit": commit,
        "git_is_dirty": None if commit is None else bool(diff),
        "git_diff": diff or None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "hostname": socket.gethostname(),
        "device": _processor(),
    }


def owner_name() -> str:
    """A name for this driver that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


def is_dead(owner: str) -> bool:
    """Whether a driver of this machine is gone; of other machines nothing is known."""
    host, process, _ = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git answers in the current folder; None outside a repository or without git."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return f"{line.partition(':')[2].strip()} x{os.cpu_count()}"
    except OSError:
        pass
    return f"{platform.machine()} x{os.cpu_count()}"
