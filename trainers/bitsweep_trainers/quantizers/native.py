"""Small kernels in C++: compiled once a machine, kept in a folder, loaded through ctypes.

torch.compile serves what is a formula over elements; this is for loops that it does not make.
"""

import ctypes
import os
import platform
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

from bitsweep.errors import InputError
from bitsweep_trainers.declared import compiler_command, missing_compiler

FOLDER_VARIABLE = "BITSWEEP_KERNELS"
# No -ffast-math: a NaN has to stay one, or a diverged training would go on.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math"),
)


def kernel_folder() -> Path:
    """$BITSWEEP_KERNELS, or else ~/.cache/bitsweep/kernels."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "bitsweep" / "kernels"


@cache
def library(source: Path, flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL:
    """The library of a source file, compiled with these flags if it is not there yet.

    InputError with the compiler's last line if it cannot be. A folder may be shared by machines:
    the name holds the text with that of the headers beside it, the command and the processor.
    """
    command = [*compiler_command(), *flags]
    key = sha256("\n".join([*_texts(source), *command, _processor()]).encode()).hexdigest()
    built = kernel_folder() / f"{source.stem}-{key[:20]}.so"
    if not built.exists():
        _compile(source, built, command)
    return ctypes.CDLL(str(built))


def _texts(source: Path) -> list[str]:
    """The source and the headers of its folder; all of them, as headers include each other."""
    return [one.read_text() for one in (source, *sorted(source.parent.glob("*.hpp")))]


def _processor() -> str:
    """What -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({one for one in lines if one.startswith(("flags", "model name"))}))


def _compile(source: Path, built: Path, command: list[str]) -> None:
    """Several processes may do it at once: each writes a file of its own and moves it there."""
    if reason := missing_compiler():
        raise InputError(reason)
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        made = Path(folder) / built.name
        done = subprocess.run(
            [*command, str(source), "-o", str(made)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = [one for one in done.stderr.splitlines() if one.strip()] or ["it says nothing"]
            raise InputError(f"{command[0]} cannot compile {source.name}: {lines[-1].strip()}")
        made.replace(built)
