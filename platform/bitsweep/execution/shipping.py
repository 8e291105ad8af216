"""What travels to a cluster: our packages and plug-ins, unpacked, with their entry points.

An unpacked wheel needs no pip on the nodes and no index that they can reach; the entry points tell
them which trainers and declarations there are. Dependencies must be in the nodes' image.
"""

import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from bitsweep.errors import InputError
from bitsweep.trainer import DATA_TOOLS, DECLARATIONS, GROUP_TRAINERS, TRAINERS

GROUPS = frozenset({DATA_TOOLS, DECLARATIONS, GROUP_TRAINERS, TRAINERS})


def stage(folder: Path, *, trainer: str) -> list[str]:
    """Copy into the folder what the nodes must be able to import; return the copies' paths.

    That is every installed distribution with an entry point of ours, and the module of a trainer
    that is named "module:function". Raises InputError for a module that cannot be found.
    """
    staged: dict[str, Path] = {}
    for distribution in _ours():
        info = folder / f"{distribution.name.replace('-', '_')}-{distribution.version}.dist-info"
        if info.name in staged:
            continue  # a second copy further down the path: imports never see it
        staged[info.name] = _information(distribution, info)
        for name in _modules(distribution):
            staged.setdefault(name, _copy(name, folder))
    top = trainer.partition(":")[0].partition(".")[0]
    if ":" in trainer and top not in staged:
        staged[top] = _copy(top, folder)
    return [str(path) for path in staged.values()]


def _ours() -> Iterator[Distribution]:
    for one in distributions():
        if any(entry.group in GROUPS for entry in one.entry_points):
            yield one


def _modules(distribution: Distribution) -> Iterable[str]:
    """The top-level packages that the entry points name."""
    return sorted({entry.module.partition(".")[0] for entry in distribution.entry_points})


def _information(distribution: Distribution, target: Path) -> Path:
    """A dist-info folder with what importlib.metadata reads, and no path of this machine."""
    target.mkdir(parents=True)
    for name in ("METADATA", "entry_points.txt"):
        text = distribution.read_text(name)
        if text is not None:
            (target / name).write_text(text, encoding="utf-8")
    return target


def _copy(name: str, folder: Path) -> Path:
    spec = find_spec(name)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise InputError(f"the module {name!r} cannot be found, so it cannot be sent to a cluster")
    if spec.submodule_search_locations:
        source = Path(next(iter(spec.submodule_search_locations)))
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        return Path(shutil.copytree(source, folder / name, ignore=ignored))
    assert spec.origin is not None
    # Ray's job client sends folders alone: a module of one file travels as a package.
    package = folder / name
    package.mkdir()
    shutil.copy(spec.origin, package / "__init__.py")
    return package
