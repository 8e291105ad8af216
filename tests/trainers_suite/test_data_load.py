"""Data sets: what is declared, shipped, split and loaded."""

import gzip
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitsweep.errors import InputError, UnknownName
from bitsweep_trainers.data.arrays import Labelled, RawArrays, read_npz, write_npz
from bitsweep_trainers.data.cache import data_folder, data_path
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.data.idx import FILES, read_gz_folder, read_idx
from bitsweep_trainers.data.load import channel_statistics, load
from bitsweep_trainers.data.make_subset import first_of_each_class
from bitsweep_trainers.data.split import split_train, validation_mask


def labelled(count: int, classes: int = 3) -> Labelled:
    """`count` images of 1 x 2 x 2 pixels; each image holds its own position."""
    images = np.repeat(np.arange(count, dtype=np.uint8), 4).reshape(count, 1, 2, 2)
    return Labelled(images=images, labels=np.arange(count, dtype=np.int64) % classes)


def small_set() -> RawArrays:
    return RawArrays(train=labelled(12), test=labelled(6))


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def test_the_shipped_set_loads_offline_with_the_declared_shapes_and_sizes() -> None:
    data = DATA_SETS["fashion-mnist-6k"]
    arrays = load("fashion-mnist-6k")

    for split, size in data.sizes.items():
        images = getattr(arrays, f"{split}_images")
        labels = getattr(arrays, f"{split}_labels")
        assert (images.shape, images.dtype) == ((size, *data.shape), torch.uint8)
        assert (labels.shape, labels.dtype) == ((size,), torch.int64)
        assert labels.bincount().tolist() == [size // data.classes] * data.classes


def test_mean_and_sd_are_those_of_the_training_images_alone() -> None:
    arrays = load("fashion-mnist-6k")
    pixels = arrays.train_images.long()
    mean = Fraction(int(pixels.sum()), 255 * pixels.numel())
    square = Fraction(int((pixels * pixels).sum()), 255 * 255 * pixels.numel())

    assert arrays.mean == pytest.approx((float(mean),), rel=1e-14)
    assert arrays.std == pytest.approx((float(square - mean * mean) ** 0.5,), rel=1e-14)


def test_only_one_set_is_shipped_and_its_file_lies_in_the_package() -> None:
    shipped = [data for data in DATA_SETS.values() if data.is_shipped]

    assert [data.name for data in shipped] == ["fashion-mnist-6k"]
    assert data_path(shipped[0]).is_file()


def test_the_readme_of_the_shipped_file_states_both_its_digests() -> None:
    path = data_path(DATA_SETS["fashion-mnist-6k"])
    readme = (path.parent / "README.md").read_text()

    assert sha256(path.read_bytes()).hexdigest() in readme
    assert DATA_SETS["fashion-mnist-6k"].sha256 in readme


def test_a_set_that_is_not_there_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run: bitsweep data fetch cifar10"):
        load("cifar10", tmp_path)


def test_a_file_with_other_arrays_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "mnist.npz", small_set(), is_compressed=False)

    with pytest.raises(InputError, match=r"SHA-256 .* expected .* bitsweep data fetch mnist"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_file_cut_short_is_refused(tmp_path: Path, is_compressed: bool) -> None:
    path = tmp_path / "mnist.npz"
    write_npz(path, small_set(), is_compressed=is_compressed)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(InputError, match="bitsweep data fetch mnist"):
        load("mnist", tmp_path)


def test_an_unknown_set_names_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        load("cifar-10")


def test_the_data_folder_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITSWEEP_DATA", str(tmp_path))
    named = data_folder()
    monkeypatch.delenv("BITSWEEP_DATA")

    assert named == tmp_path
    assert data_folder() == Path.home() / ".cache" / "bitsweep" / "data"


def test_equal_arrays_give_equal_files_which_read_back(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        write_npz(tmp_path / name, small_set(), is_compressed=True)

    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert read_npz(tmp_path / "one.npz").sha256 == small_set().sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_the_digest_is_over_type_shape_and_bytes_of_each_array_in_order() -> None:
    arrays = small_set()
    expected = sha256()
    for text, values in (
        ("uint8 (12, 1, 2, 2)\n", arrays.train.images),
        ("int64 (12,)\n", arrays.train.labels),
        ("uint8 (6, 1, 2, 2)\n", arrays.test.images),
        ("int64 (6,)\n", arrays.test.labels),
    ):
        expected.update(text.encode() + values.tobytes())

    assert arrays.sha256 == expected.hexdigest()


def test_labels_must_fit_their_images() -> None:
    with pytest.raises(ValueError, match="N labels"):
        Labelled(images=labelled(3).images, labels=labelled(2).labels)


@given(
    sizes=st.lists(st.integers(min_value=101, max_value=1500), min_size=1, max_size=4),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
)
def test_the_last_of_each_class_validate_whatever_the_order(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(labels)
    mask = validation_mask(labels)

    for label, size in enumerate(sizes):
        of_class = mask[labels == label]
        count = 100 if size < 1000 else size // 10
        assert of_class.sum() == of_class[-count:].sum() == count


def test_a_split_loses_no_image_and_keeps_the_order_of_the_file() -> None:
    images = np.arange(250, dtype=np.uint8).reshape(250, 1, 1, 1)
    whole = Labelled(images=images, labels=np.arange(250, dtype=np.int64) % 2)
    train, validation = split_train(whole)

    assert train.images.ravel().tolist() == list(range(50))
    assert validation.images.ravel().tolist() == list(range(50, 250))


def test_a_subset_takes_the_first_of_each_class_in_the_order_of_the_file() -> None:
    part = Labelled(images=labelled(6).images, labels=np.array([1, 1, 0, 1, 0, 0], dtype=np.int64))
    subset = first_of_each_class(part, 2)

    assert subset.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4]
    assert subset.labels.tolist() == [1, 1, 0, 0]


def test_statistics_are_per_channel() -> None:
    images = np.zeros((2, 2, 1, 2), dtype=np.uint8)
    images[:, 1] = [[0, 255]]

    assert channel_statistics(images) == ((0.0, 0.5), (0.0, 0.5))


def test_idx_files_are_read_from_packed_folders_and_checked(tmp_path: Path) -> None:
    contents = [
        idx_bytes(np.arange(8, dtype=np.uint8).reshape(2, 2, 2)),
        idx_bytes(np.array([3, 4], dtype=np.uint8)),
        idx_bytes(np.zeros((1, 2, 2), dtype=np.uint8)),
        idx_bytes(np.array([5], dtype=np.uint8)),
    ]
    for name, content in zip(FILES, contents, strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    checksums = {
        name: sha256(content).hexdigest() for name, content in zip(FILES, contents, strict=True)
    }
    arrays = read_gz_folder(tmp_path, checksums)

    assert arrays.train.images.tolist() == [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]]]
    assert arrays.test.labels.tolist() == [5]
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte has SHA-256 .* expected 0"):
        read_gz_folder(tmp_path, checksums | {FILES[1]: "0"})


def test_a_file_that_is_no_idx_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an IDX file"):
        read_idx(b"PK\x03\x04 and so on")
