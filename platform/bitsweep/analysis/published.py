"""Numbers that papers print, with where they stand; beside ours only where the setting agrees.

They come with the package, are never written into a store, and are never averaged with ours.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SECONDARY = "secondary"
_SAME = {"imagenet1k": "imagenet", "ilsvrc2012": "imagenet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One printed number; every field as printed, since a paper may print a range or a delta."""

    paper: str
    place: str
    data: str
    model: str
    method: str
    weight_bits: str
    activation_bits: str
    top1: str
    bitops: str
    source: str

    @property
    def provenance(self) -> str:
        """`primary`: from the paper or its authors' files; `secondary`: quoted by someone else."""
        return SECONDARY if self.source.startswith(SECONDARY) else "primary"

    @property
    def bits(self) -> str:
        """w4a4, or what the paper says where it is no pair of whole numbers."""
        return f"w{self.weight_bits}a{self.activation_bits}"

    @property
    def top1_percent(self) -> float | None:
        """Top-1 in percent; None where the paper prints something else, such as a difference."""
        return float(self.top1) if re.fullmatch(r"\d+(\.\d+)?", self.top1) else None


def plain_name(name: str) -> str:
    """A model's or data set's name without case and signs, so that spellings agree.

    >>> plain_name("ResNet-18") == plain_name("resnet18"), plain_name("ImageNet-1K")
    (True, 'imagenet')
    """
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return _SAME.get(letters, letters)


@cache
def published() -> tuple[Published, ...]:
    """Every number that comes with the package, file by file."""
    folder = files("bitsweep.analysis") / "data"
    names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".csv"))
    return tuple(row for name in names for row in _read((folder / name).read_text("utf-8")))


def _read(text: str) -> Iterable[Published]:
    for row in csv.DictReader(text.splitlines()):
        yield Published(
            paper=row["paper"],
            place=row["table"],
            data=row["dataset"],
            model=row["model"],
            method=row["method"],
            weight_bits=row["weight_bits"],
            activation_bits=row["act_bits"],
            top1=row["top1"],
            bitops=row.get("bitops") or "",
            source=row["source"],
        )


def filtered(
    rows: Sequence[Published],
    *,
    data: str | None = None,
    model: str | None = None,
    bits: str | None = None,
    text: str | None = None,
) -> list[Published]:
    """Rows with this data, model and bits, whose method, paper or place contains the text."""
    return [
        row
        for row in rows
        if (data is None or plain_name(row.data) == plain_name(data))
        and (model is None or plain_name(row.model) == plain_name(model))
        and (bits is None or row.bits == bits)
        and (text is None or text.lower() in f"{row.method} {row.paper} {row.place}".lower())
    ]


def beside(*, data: str, model: str, bits: Iterable[str]) -> list[Published]:
    """The accuracies that may stand beside ours: data, model and bits agree."""
    wanted = set(bits)
    alike = filtered(published(), data=data, model=model)
    return [row for row in alike if row.bits in wanted and row.top1_percent is not None]
