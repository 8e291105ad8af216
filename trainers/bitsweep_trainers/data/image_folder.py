"""Folders of images in the layout of ImageNet: train/CLASS/*.jpg and val/CLASS/*.jpg.

Declares a folder by its list of files; the files are decoded only when a batch asks for them.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from bitsweep.declaration import DataDeclaration
from bitsweep.errors import InputError

DEFAULT_SIZE = 224
LARGEST_SIZE = 4096
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPLIT_RULE = (
    "test: val/; validation: of each class in train/, in the order of file names, the last tenth "
    "(rounded down, at least one, at most 50); train: the others"
)
_MOST_VALIDATION = 50
Labelled = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Paths relative to the folder, each with its class; classes in the order of their names."""

    classes: tuple[str, ...]
    train: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]
    test: tuple[Labelled, ...]


def folder_and_size(path: Path) -> tuple[Path, int]:
    """The folder, and the side of its images in pixels: "imagenet@160" asks for 160.

    >>> folder_and_size(Path("imagenet@160"))[1], folder_and_size(Path("imagenet"))[1]
    (160, 224)
    """
    name, _, size = path.name.rpartition("@")
    if name and size.isascii() and size.isdigit() and int(size) > 0:
        return path.with_name(name), int(size)
    return path, DEFAULT_SIZE


def declare_folder(folder: Path, size: int) -> DataDeclaration:
    """What the folder holds. Its digest is that of names and sizes in bytes, not of pixels."""
    if size > LARGEST_SIZE:
        raise InputError(f"{folder}@{size}: expected a side of at most {LARGEST_SIZE} pixels")
    files = read_folder(folder)
    return DataDeclaration(
        name=f"{folder.name}@{size}",
        title=f"images of {folder.name} at {size} pixels",
        source=folder.name,
        sha256=_digest(folder),
        shape=(3, size, size),
        classes=len(files.classes),
        sizes={
            "train": len(files.train),
            "validation": len(files.validation),
            "test": len(files.test),
        },
        split_rule=SPLIT_RULE,
        identified_by="files",
        path=str(folder.with_name(f"{folder.name}@{size}")),
    )


@cache
def read_folder(folder: Path) -> Files:
    """List a folder; InputError that says what is missing where the layout is another."""
    parts = {name: _classes(folder / name) for name in ("train", "val")}
    if parts["train"].keys() != parts["val"].keys():
        odd = sorted(parts["train"].keys() ^ parts["val"].keys())[0]
        raise InputError(f"{folder}: the class {odd!r} is in only one of train/ and val/")
    classes = tuple(sorted(parts["train"]))
    if len(classes) < 2:
        raise InputError(f"{folder}/train: expected at least 2 classes, got {classes[0]} alone")
    train: list[Labelled] = []
    validation: list[Labelled] = []
    for label, name in enumerate(classes):
        found = [(one, label) for one in parts["train"][name]]
        if len(found) < 2:
            raise InputError(f"{folder}/train/{name}: expected at least 2 images, one validates")
        count = min(max(1, len(found) // 10), _MOST_VALIDATION)
        train += found[:-count]
        validation += found[-count:]
    test = [(one, label) for label, name in enumerate(classes) for one in parts["val"][name]]
    return Files(
        classes=classes, train=tuple(train), validation=tuple(validation), test=tuple(test)
    )


def _classes(part: Path) -> dict[str, list[str]]:
    if not part.is_dir():
        raise InputError(f"{part}: no such folder; expected train/CLASS/ and val/CLASS/ of images")
    found = {
        one.name: sorted(
            str(image.relative_to(part.parent))
            for image in one.iterdir()
            if image.suffix.lower() in SUFFIXES
        )
        for one in part.iterdir()
        if one.is_dir()
    }
    for name, images in found.items():
        if not images:
            raise InputError(f"{part / name}: no images; expected files {', '.join(SUFFIXES)}")
    if not found:
        raise InputError(f"{part}: no class folders in it")
    return found


@cache
def _digest(folder: Path) -> str:
    files = read_folder(folder)
    digest = sha256()
    for path, label in (*files.train, *files.validation, *files.test):
        line = f"{path}\t{label}\t{_size(folder / path)}\n"
        digest.update(line.encode(errors="surrogateescape"))  # names are bytes, of any encoding
    return digest.hexdigest()


def _size(image: Path) -> int:
    """Bytes of an image; InputError for a link to nowhere, a folder, or an empty file."""
    try:
        found = image.stat()
    except OSError as error:
        raise InputError(f"{image}: cannot be read: {error.strerror}") from error
    if not S_ISREG(found.st_mode) or not found.st_size:
        raise InputError(f"{image}: expected an image, got an empty file or none")
    return found.st_size
