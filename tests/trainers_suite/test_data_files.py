"""Files that are no data set, damaged ones and wrong numbers: one line each, nothing guessed."""

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitsweep.errors import InputError
from bitsweep_trainers.data.paths import data_of_path
from bitsweep_trainers.data.sample_files import read_samples

LABELS = np.arange(12) % 2
SERIES = np.linspace(-1, 1, 96).reshape(12, 8)
VECTORS = SERIES + 1j
SPLIT = np.array(["train", "validation", "train", "test"] * 3)
ROWS = "".join(f"{n % 2},{n},{n}\n" for n in range(12))


def message_of(path: Path) -> str:
    """The one line that refuses a file."""
    with pytest.raises(InputError) as raised:
        data_of_path(path)
    message = str(raised.value)
    assert "\n" not in message and message.startswith(str(path)), message
    return message


TEXTS: dict[str, tuple[bytes | str, str]] = {
    "Latin-1": ("label,t\xe4\n".encode("latin-1"), "it is not UTF-8 text (byte 7 is 0xe4)"),
    "UTF-16": ("label,t0\n0,1\n".encode("utf-16"), "it is not UTF-8 text"),
    "nothing": ("", "a header with a column label"),
    "a header alone": ("label,t0\n", "expected rows under the header"),
    "labels alone": ("label\n0\n1\n", "no column of numbers"),
    "labels and split alone": ("label,split\n0,train\n", "no column of numbers"),
    "a column twice": ("label,a,a\n" + ROWS, "the column 'a' stands there twice"),
    "pandas' index": (",label,a\n" + ROWS, "column 1 has no name"),
    "a label with a space": ("label, split,a\n" + ROWS, "the column ' split' would be a point"),
    "a value too many": ("label,a,b\n" + ROWS + "0,1,2,3\n", "row 13 under the header has 4"),
    "a value too few": ("label,a,b\n" + ROWS + "0,1\n", "row 13 under the header has 2 values"),
    "semicolons": ("label;a;b\n" + ROWS.replace(",", ";"), "separated by commas"),
    "a huge field": (f"label,a\n0,{'1' * 200_000}\n", "field larger than field limit"),
    "a number with underscores": ("label,a,b\n" + ROWS + "0,1_0,2\n", "'1_0'"),
    "a label with underscores": ("label,a,b\n" + ROWS + "1_0,1,2\n", "whole numbers from 0"),
    "a fraction as label": ("label,a,b\n" + ROWS + "0.7,1,2\n", "whole numbers from 0, got '0.7'"),
    "an endless label": (f"label,a,b\n{ROWS}{'9' * 30},1,2\n", "whole numbers from 0"),
    "an infinite value": ("label,a,b\n" + ROWS + "0,inf,2\n", "sample 12 (from 0) is not finite"),
    "beyond float32": ("label,a,b\n" + ROWS + "0,1e39,2\n", "sample 12 (from 0) is not finite"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_csv_that_is_no_series_says_why(tmp_path: Path, name: str) -> None:
    content, expected = TEXTS[name]
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert expected in message_of(path)


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no series": ({"series": SERIES[:0], "labels": LABELS[:0]}, "at least one of each, got (0,"),
    "no points": ({"series": SERIES[:, :0], "labels": LABELS}, "got (12, 1, 0)"),
    "no vectors": ({"vectors": VECTORS[:0]}, "at least one of each, got (0, 16)"),
    "no numbers": ({"vectors": VECTORS[:, :0]}, "got (12, 0)"),
    "complex series": ({"series": VECTORS, "labels": LABELS}, "real numbers, got complex128"),
    "texts": ({"series": SERIES.astype(str), "labels": LABELS}, "real numbers, got <U"),
    "dates": ({"series": SERIES.astype("M8[s]"), "labels": LABELS}, "got datetime64[s]"),
    "one dimension": ({"series": SERIES[:, 0], "labels": LABELS}, "expected series (N, C, L)"),
    "real vectors": ({"vectors": SERIES}, "expected complex vectors (N, M), got float64"),
    "a zero vector": ({"vectors": VECTORS * (LABELS != 1)[:, None]}, "vector 1 (from 0) is zero"),
    "NaN": ({"series": SERIES * np.nan, "labels": LABELS}, "sample 0 (from 0) is not finite"),
    "NaN vectors": ({"vectors": VECTORS * np.nan}, "sample 0 (from 0) is not finite"),
    "float64 too large": ({"series": SERIES * 1e300, "labels": LABELS}, "range of float32"),
    "fractions": ({"series": SERIES, "labels": LABELS + 0.7}, "whole numbers from 0, got 0.7"),
    "NaN labels": ({"series": SERIES, "labels": LABELS * np.nan}, "whole numbers from 0, got nan"),
    "negative": ({"series": SERIES, "labels": LABELS - 1}, "whole numbers from 0, got -1"),
    "text labels": ({"series": SERIES, "labels": LABELS.astype(str)}, "got <U"),
    "one-hot": ({"series": SERIES, "labels": np.eye(2)[LABELS]}, "labels of shape (12, 2)"),
    "gaps": (
        {"series": SERIES, "labels": LABELS * 500},
        "no sample has the label 1, and some have 500: number the 2 classes 0 to 1",
    ),
    "from 1": ({"series": SERIES, "labels": LABELS + 1}, "no sample has the label 0"),
    "one class": ({"series": SERIES, "labels": LABELS * 0}, "expected at least 2 classes"),
    "a rare class": (
        {"series": SERIES, "labels": np.array([0] * 10 + [1] * 2)},
        "no sample of class 1 is of the part train: without a split a class needs at least 3",
    ),
    "a split too short": (
        {"series": SERIES, "labels": LABELS, "split": SPLIT[:4]},
        "split of shape (4,): expected one for each of the 12 samples",
    ),
    "a split misspelt": (
        {"series": SERIES, "labels": LABELS, "splits": SPLIT},
        "nothing reads the array 'splits' (did you mean 'split'?)",
    ),
    "labels misspelt": ({"series": SERIES, "label": LABELS}, "no array 'labels' (did you mean"),
    "both": ({"series": SERIES, "labels": LABELS, "vectors": VECTORS}, "series and labels, or"),
    "objects": ({"series": SERIES.astype(object), "labels": LABELS}, "cannot be read as an npz"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_npz_that_is_no_data_set_says_why(tmp_path: Path, name: str) -> None:
    arrays, expected = ARRAYS[name]
    np.savez(tmp_path / "a.npz", **arrays)

    assert expected in message_of(tmp_path / "a.npz")


def an_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, SERIES)


def a_zip_of_texts(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("series", "hello")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (an_npy, "it is no npz"),
        (a_zip_of_texts, "its member 'series' is no array"),
        (lambda path: path.write_text("hello"), "it is no npz"),
        (lambda path: path.touch(), "it is no npz"),
        (os.mkfifo, "expected a file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_what_is_only_named_npz_is_refused(
    tmp_path: Path, write: Callable[[Path], object], expected: str
) -> None:
    write(tmp_path / "a.npz")

    assert expected in message_of(tmp_path / "a.npz")


def test_a_damaged_npz_never_ends_in_a_traceback(tmp_path: Path) -> None:
    drawn, path = random.Random(0), tmp_path / "a.npz"
    np.savez_compressed(path, series=SERIES, labels=LABELS, split=SPLIT)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(drawn.choice((1, 2, 20))):
            damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
        path.write_bytes(damaged[: drawn.choice((len(damaged), drawn.randrange(len(damaged))))])
        try:
            data_of_path(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)

    assert refused > 200


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.csv", tmp_path / "marked.csv"
    plain.write_text("label,a,b\n" + ROWS)
    marked.write_text("label,a,b\n" + ROWS, encoding="utf-8-sig")

    assert data_of_path(marked).sha256 == data_of_path(plain).sha256


def test_labels_that_are_whole_floats_are_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", series=SERIES, labels=LABELS.astype(float))

    assert read_samples(tmp_path / "a.npz").labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", ["a" * 300, "images@\xb2", "none/x.csv"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    assert "cannot be read" in message_of(tmp_path / name)


def folder_of(folder: Path, *classes: str) -> Path:
    """Four images of training and one of test in each class."""
    for name in classes:
        for part, count in (("train", 4), ("val", 1)):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (8, 8)).save(folder / part / name / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda one: one.write_bytes(b""), "got an empty file"),
        (lambda one: (one.unlink(), one.symlink_to("nowhere")), "cannot be read: No such file"),
        (lambda one: (one.unlink(), one.mkdir()), "got an empty file or none"),
    ],
)
def test_an_image_that_is_none_is_refused_before_the_trials(
    tmp_path: Path, spoil: Callable[[Path], object], expected: str
) -> None:
    folder = folder_of(tmp_path / "images", "cat", "dog")
    spoil(folder / "train" / "dog" / "2.png")

    assert expected in message_of(folder)


def test_a_folder_of_one_class_is_refused(tmp_path: Path) -> None:
    assert "at least 2 classes, got cat alone" in message_of(folder_of(tmp_path / "one", "cat"))


def test_images_of_a_huge_side_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "images", "cat", "dog")

    assert "at most 4096 pixels" in message_of(tmp_path / "images@99999")


def test_a_name_that_is_no_utf_8_is_a_file_name_like_any_other(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", "cat", "dog")
    (folder / "train" / "cat" / "0.png").rename(
        os.fsdecode(bytes(folder) + b"/train/cat/\xff.png")
    )

    assert data_of_path(folder).sizes["train"] == 6
