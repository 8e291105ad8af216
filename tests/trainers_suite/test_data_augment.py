"""Augmentation in batches: every image by draws of its own, repeatable, cropped and mirrored."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from bitsweep_trainers.data.augment import (
    AUGMENTATIONS,
    NO_AUGMENTATION,
    Augmentation,
    augment,
    augment_each,
    normalise,
    random_crop,
    random_flip,
)
from bitsweep_trainers.data.declared import DATA_SETS

BOTH = Augmentation(pad=4, is_flipped=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 16, channels: int = 3, height: int = 6, width: int = 5) -> Tensor:
    """Random uint8 images without a black pixel, so that what is padded shows."""
    shape = (count, channels, height, width)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator(1))


def test_every_data_set_has_a_policy() -> None:
    assert sorted(AUGMENTATIONS) == sorted(DATA_SETS)


def test_without_augmentation_the_images_come_back_and_nothing_is_drawn() -> None:
    given_images, source = images(), generator()

    assert augment(given_images, NO_AUGMENTATION, source) is given_images
    assert torch.equal(source.get_state(), generator().get_state())


@pytest.mark.parametrize("policy", [BOTH, NO_AUGMENTATION])
def test_batches_varied_at_once_are_those_varied_one_by_one(policy: Augmentation) -> None:
    whole = images(count=12)
    at_once = augment_each(whole, policy, [generator(seed) for seed in (3, 4, 5)])
    one_by_one = [augment(whole[4 * i : 4 * i + 4], policy, generator(3 + i)) for i in range(3)]

    assert torch.equal(at_once, torch.cat(one_by_one))


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    once = augment(images(), BOTH, generator(3))

    assert torch.equal(once, augment(images(), BOTH, generator(3)))
    assert not torch.equal(once, augment(images(), BOTH, generator(4)))


@given(pad=st.integers(min_value=1, max_value=4), seed=st.integers(min_value=0, max_value=999))
def test_a_crop_is_a_window_of_its_own_padded_image(pad: int, seed: int) -> None:
    given_images = images(count=4)
    cropped = random_crop(given_images, pad, generator(seed))
    padded = functional.pad(given_images, (pad, pad, pad, pad))
    windows = padded.unfold(2, 6, 1).unfold(3, 5, 1).flatten(2, 3)

    assert (cropped.shape, cropped.dtype) == (given_images.shape, torch.uint8)
    for index in range(4):
        matches = windows[index].eq(cropped[index, :, None]).all(3).all(2).all(0)
        assert matches.any()


def test_all_shifts_of_a_crop_occur_about_equally_often() -> None:
    marked = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    marked[:, 0, 1, 1] = 255
    seen = random_crop(marked, 1, generator()).flatten(1).argmax(1).bincount(minlength=9)

    assert seen.min() > 850
    assert seen.max() < 1150


def test_about_half_of_the_images_are_mirrored_and_the_others_are_not_touched() -> None:
    given_images = images(count=1000)
    flipped = random_flip(given_images, generator())
    is_kept = flipped.eq(given_images).flatten(1).all(1)
    is_mirrored = flipped.eq(given_images.flip(3)).flatten(1).all(1)

    assert (is_kept | is_mirrored).all()
    assert 430 < int(is_mirrored.sum()) < 570


def test_augmentation_serves_images_in_floating_point_too() -> None:
    whole = augment(images(), BOTH, generator(5))
    floating = augment(images().float(), BOTH, generator(5))

    assert torch.equal(whole.float(), floating)


def test_normalised_images_have_mean_0_and_sd_1_per_channel() -> None:
    given_images = images(count=64)
    pixels = given_images.double() / 255
    mean = pixels.mean((0, 2, 3)).tolist()
    std = pixels.std((0, 2, 3), correction=0).tolist()
    normalised = normalise(given_images, mean, std)

    assert normalised.dtype == torch.float32
    assert normalised.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert normalised.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        Augmentation(pad=-1)
