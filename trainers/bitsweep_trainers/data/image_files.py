"""Images that stay files until a batch of them is needed: decoded by threads, through Pillow.

Quacks like a tensor of images where the loop and the evaluation look: length, indices, device.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import exp, log
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bitsweep.errors import InputError

CROP_SHARE = 224 / 256  # of the shorter side: what evaluation on ImageNet keeps
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
Box = tuple[float, float, float, float]


class ImageFiles:
    """Images uint8 (N, 3, size, size) to be decoded; an index or a slice gives fewer of them."""

    def __init__(
        self, paths: Sequence[Path], size: int, device: torch.device | str = "cpu"
    ) -> None:
        self.paths = tuple(paths)
        self.size = size
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size, size), as decoded."""
        return torch.Size((len(self.paths), 3, self.size, self.size))

    def __getitem__(self, index: slice | Tensor) -> "ImageFiles":
        if isinstance(index, slice):
            return ImageFiles(self.paths[index], self.size, self.device)
        chosen = index.nonzero().flatten() if index.dtype == torch.bool else index
        return ImageFiles([self.paths[one] for one in chosen.tolist()], self.size, self.device)

    def to(self, device: torch.device | str) -> "ImageFiles":
        """The same, decoded onto the device."""
        return ImageFiles(self.paths, self.size, device)

    def centred(self) -> Tensor:
        """Decode: the shorter side resized to size / CROP_SHARE, the centre cut out."""
        return self._decoded([None] * len(self))

    def cropped(self, generator: torch.Generator) -> Tensor:
        """Decode a random part of each, of AREA of its area and of a RATIO of sides, resized.

        Source: Szegedy et al., arXiv 1409.4842, section 6, as torchvision's RandomResizedCrop.
        Four numbers are drawn per attempt and image whatever the image is, so that what is drawn
        depends on the generator alone.
        """
        draws = torch.rand((len(self), _ATTEMPTS, 4), generator=generator).tolist()
        return self._decoded(draws)

    def _decoded(self, draws: Sequence[list[list[float]] | None]) -> Tensor:
        sizes = [self.size] * len(self)
        images = list(_threads().map(_decode, self.paths, sizes, draws))
        stacked = np.stack(images) if images else np.zeros(self.shape, np.uint8)
        return torch.from_numpy(stacked).to(self.device)


@cache
def _threads() -> ThreadPoolExecutor:
    """Pillow decodes without Python's lock: threads do, and need no copies between processes."""
    return ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1))


def _decode(path: Path, size: int, draws: list[list[float]] | None) -> np.ndarray:
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: cannot be decoded as an image: {error}") from error
    width, height = image.size
    box = _centre(width, height) if draws is None else random_box(width, height, draws)
    resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def _centre(width: int, height: int) -> Box:
    side = CROP_SHARE * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def random_box(width: int, height: int, draws: list[list[float]]) -> Box:
    """(left, top, right, bottom) by the first draw whose box fits, else the largest centre."""
    for area, ratio, across, down in draws:
        wanted = width * height * (AREA[0] + area * (AREA[1] - AREA[0]))
        sides = exp(log(RATIO[0]) + ratio * (log(RATIO[1]) - log(RATIO[0])))
        w, h = (wanted * sides) ** 0.5, (wanted / sides) ** 0.5
        if w <= width and h <= height:
            left, top = across * (width - w), down * (height - h)
            return (left, top, left + w, top + h)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)
