"""Data sets named by a path: series, complex vectors, image folders; and CIFAR-100's archive."""

import csv
import io
import pickle
import tarfile
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bitsweep.errors import InputError
from bitsweep_trainers.data.augment import IMAGE_FOLDER, augment, augment_each, normalise
from bitsweep_trainers.data.cache import data_path, declaration, expected_sha256, noted_beside
from bitsweep_trainers.data.cifar100 import read_python_tar
from bitsweep_trainers.data.image_files import ImageFiles, random_box
from bitsweep_trainers.data.load import load, load_folder, load_samples
from bitsweep_trainers.data.make_signals import beats, channels
from bitsweep_trainers.data.paths import data_of_path
from bitsweep_trainers.data.sample_files import read_samples
from bitsweep_trainers.losses import complex_cosines, normalised_errors, task_loss

ROOT = Path(__file__).parents[2]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows(count: int = 20) -> list[dict[str, Any]]:
    return [{"label": n % 2, "t0": n, "t1": 0.5 * n, "t2": 1} for n in range(count)]


def test_a_csv_and_an_npz_of_the_same_series_are_the_same_data(tmp_path: Path) -> None:
    made = rows()
    text = write_csv(tmp_path / "a.csv", made)
    series = np.array([[row["t0"], row["t1"], row["t2"]] for row in made], np.float32)
    np.savez(tmp_path / "a.npz", series=series, labels=[row["label"] for row in made])
    one, other = data_of_path(text), data_of_path(tmp_path / "a.npz")

    assert one.sha256 == other.sha256
    assert (one.kind, one.shape, one.classes) == ("series", (1, 3), 2)
    assert one.sizes == {"train": 14, "validation": 2, "test": 4}


def test_a_split_column_decides(tmp_path: Path) -> None:
    made = rows(6)
    for row, split in zip(made, ["train"] * 3 + ["validation"] + ["test"] * 2, strict=True):
        row["split"] = split
    data = load_samples(read_samples(write_csv(tmp_path / "a.csv", made)))

    assert data.train_images[:, 0, 0].tolist() == [0, 1, 2]
    assert data.test_images[:, 0, 0].tolist() == [4, 5]


def test_series_are_normalised_by_their_training_part(tmp_path: Path) -> None:
    data = load_samples(read_samples(write_csv(tmp_path / "a.csv", rows())))
    made = normalise(data.train_images, data.mean, data.std)

    assert float(made.mean()) == pytest.approx(0, abs=1e-6)
    assert float(made.std(correction=0)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("t0,t1\n1,2\n", "a column label"),
        ("label,t0\n0,x\n", "could not convert"),
        ("label,t0\n0,nan\n1,2\n", "not finite"),
        ("label,t0,split\n0,1,dev\n", "split 'dev' is unknown"),
        ("label,t0,split\n0,1,train\n", "no sample is of the part validation"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        data_of_path(path)

    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: cannot be read"):
        data_of_path(tmp_path / "none.npz")


def test_vectors_are_their_own_targets_at_sd_1(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=channels()[:50])
    data = load_samples(read_samples(tmp_path / "v.npz"))

    assert data.train_images.shape[1:] == (64,)
    assert torch.allclose(normalise(data.train_images, data.mean, data.std), data.train_labels)
    assert float(data.train_labels.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_a_cosine_of_complex_vectors_forgets_phase_and_length() -> None:
    vectors = torch.tensor([[1.0, 0.0, 0.0, 2.0]])  # (1, 2i)
    turned = torch.tensor([[0.0, -6.0, 3.0, 0.0]])  # 3i times it
    other = torch.tensor([[2.0, 0.0, 0.0, 1.0]])  # (2, i): <.,.> = 2 + 2 = 4, norms sqrt 5

    assert complex_cosines(turned, vectors).item() == pytest.approx(1.0)
    assert complex_cosines(other, vectors).item() == pytest.approx(0.8)
    assert normalised_errors(other, vectors).item() == pytest.approx(0.4)
    assert task_loss(other, vectors).item() == pytest.approx(0.5)


def test_the_shipped_signals_are_those_that_the_script_makes() -> None:
    with np.load(ROOT / "sweeps" / "data" / "beats.npz") as file:
        assert np.allclose(file["series"].astype(float), beats()[0].astype(float), atol=2e-3)
        assert np.array_equal(file["labels"], beats()[1])
    with np.load(ROOT / "sweeps" / "data" / "channels.npz") as file:
        assert np.allclose(file["vectors"], channels(), atol=1e-5)


def image_folder(
    folder: Path, *, train: int = 4, classes: tuple[str, ...] = ("cat", "dog")
) -> Path:
    """A tiny folder in the layout of ImageNet: images of one colour, of several sizes."""
    for label, name in enumerate(("cat", "dog")):
        for part, count in (("train", 4), ("val", 2)):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                colour = (40 * index, 200 * label, 30)
                image = Image.new("RGB", (40 + 10 * index, 30), colour)
                image.save(folder / part / name / f"{index}.png")
    return folder


def test_a_folder_of_images_is_declared_and_read(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    declared = data_of_path(tmp_path / "images@16")
    data = load_folder(folder, 16)

    assert (declared.shape, declared.classes) == ((3, 16, 16), 2)
    assert declared.sizes == {"train": 6, "validation": 2, "test": 4}
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.validation_labels.tolist() == [0, 1]


def test_images_stay_files_until_a_batch_is_needed(tmp_path: Path) -> None:
    data = load_folder(image_folder(tmp_path / "images"), 16)
    batch = data.train_images[torch.tensor([4, 0])]
    assert isinstance(batch, ImageFiles)
    centred = batch.centred()
    varied = augment(batch, IMAGE_FOLDER, torch.Generator().manual_seed(0))

    assert centred.shape == varied.shape == (2, 3, 16, 16)
    assert centred.dtype == torch.uint8
    assert centred[:, :, 0, 0].tolist() == [[40, 200, 30], [0, 0, 30]]
    assert normalise(data.test_images[:3], data.mean, data.std).shape == (3, 3, 16, 16)


def test_random_parts_come_from_the_generator_alone(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    image_folder(folder)
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "train" / "cat" / "0.png")
    files = ImageFiles([folder / "train" / "cat" / "0.png"], 16)
    one, same, other = (files.cropped(torch.Generator().manual_seed(n)) for n in (1, 1, 2))

    assert torch.equal(one, same) and not torch.equal(one, other)
    assert not torch.equal(one, files.centred())


def test_files_decoded_for_several_generators_are_those_of_each(tmp_path: Path) -> None:
    files = load_folder(image_folder(tmp_path / "images"), 16).train_images

    def draws() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2)]

    parts = zip((files[:3], files[3:]), draws(), strict=True)
    one_by_one = torch.cat([augment(part, IMAGE_FOLDER, one) for part, one in parts])

    assert torch.equal(augment_each(files, IMAGE_FOLDER, draws()), one_by_one)


def test_a_random_box_lies_in_the_image_and_one_that_never_fits_is_the_centre() -> None:
    left, top, right, bottom = random_box(40, 30, [[0.5, 0.5, 1.0, 1.0]])

    assert 0 <= left < right <= 40 + 1e-9 and 0 <= top < bottom <= 30 + 1e-9
    assert random_box(400, 10, [[1.0, 0.5, 0.0, 0.0]]) == (195.0, 0.0, 205.0, 10.0)


@pytest.mark.parametrize("broken", ["no val", "another class", "empty class", "no image"])
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, broken: str) -> None:
    folder = image_folder(tmp_path / "images")
    if broken == "no val":
        (folder / "val").rename(folder / "validation")
    elif broken == "another class":
        (folder / "val" / "dog").rename(folder / "val" / "wolf")
    elif broken == "empty class":
        for one in (folder / "train" / "dog").iterdir():
            one.unlink()
    else:
        (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"images") as caught:
        data_of_path(folder)
        augment(load_folder(folder, 8).train_images, IMAGE_FOLDER, torch.Generator())

    assert "\n" not in str(caught.value)


def cifar100_tar(path: Path) -> dict[str, str]:
    """An archive in the official layout, with two images a part; the MD5 of its members."""
    checksums = {}
    with tarfile.open(path, "w:gz") as archive:
        for name, seed in (("train", 0), ("test", 1)):
            pixels = np.random.default_rng(seed).integers(0, 256, (2, 3072), dtype=np.uint8)
            document = {b"data": pixels, b"fine_labels": [seed, 99]}
            content = pickle.dumps(document, protocol=2)
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            checksums[name] = md5(content, usedforsecurity=False).hexdigest()
    return checksums


def test_cifar100_is_read_from_its_archive(tmp_path: Path) -> None:
    checksums = cifar100_tar(tmp_path / "c.tar.gz")
    arrays = read_python_tar(tmp_path / "c.tar.gz", checksums)

    assert arrays.train.images.shape == (2, 3, 32, 32)
    assert arrays.test.labels.tolist() == [1, 99]
    expected = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    assert np.array_equal(arrays.train.images.reshape(2, -1), expected)


def test_another_archive_than_the_official_one_is_refused(tmp_path: Path) -> None:
    cifar100_tar(tmp_path / "c.tar.gz")
    with pytest.raises(ValueError, match="train of CIFAR-100 has MD5"):
        read_python_tar(tmp_path / "c.tar.gz")


def test_a_pickle_that_is_more_than_arrays_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({b"data": Path("x")}, protocol=2)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-100-python/train")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    checksum = md5(content, usedforsecurity=False).hexdigest()
    with pytest.raises(ValueError, match="holds an object pathlib"):
        read_python_tar(tmp_path / "c.tar.gz", {"train": checksum})


def test_cifar100_without_its_note_says_how_to_fetch_it(tmp_path: Path) -> None:
    path = data_path(declaration("cifar100"), tmp_path)
    path.touch()
    with pytest.raises(InputError, match="bitsweep data fetch cifar100"):
        load("cifar100", tmp_path)
    noted_beside(path).write_text("a" * 64 + "\n")

    assert expected_sha256(declaration("cifar100"), path) == "a" * 64
