"""The C++ kernels of CPQ: the numbers of the eager ones in float32, and how they are built.

The golden numbers and the laws in double precision are run with both backends where they stand.
"""

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitsweep.errors import InputError
from bitsweep_trainers.quantizers import native
from bitsweep_trainers.quantizers.categorical import EAGER, Gradients, Kernels, Ste, quantize
from bitsweep_trainers.quantizers.categorical_compiled import (
    COMPILED,
    SOURCE,
    kernels_of,
    kernels_with,
)
from bitsweep_trainers.quantizers.grid import Grid, GridKind, Sharing, make_grid

ALPHA, SIGMA = 0.1, 0.03
GRIDS: list[tuple[GridKind, Sharing]] = [
    *(("sym", "off"), ("full", "bitwise"), ("sym", "endpoints")),
    *(("unsigned", "off"), ("unsigned", "bitwise")),
]
SIZE = 40_001  # three parts, of which the last is a piece


def values(grid: Grid, size: int = SIZE) -> tuple[Tensor, Tensor, Tensor | None]:
    """x and G beyond the grid on both sides, and masks of which some are 0 and some 1."""
    draws = torch.Generator().manual_seed(grid.high)
    x = torch.randn(size, generator=draws) * ALPHA * grid.high * 0.6
    x = x[(x / ALPHA % 1 - 0.5).abs() > 1e-3]
    G = torch.randn(len(x), generator=draws)
    z = (1.6 * torch.rand(grid.num_masks, generator=draws) - 0.3).clamp(0, 1)
    return x, G, z if grid.num_masks else None


def run(
    x: Tensor, G: Tensor, z: Tensor | None, grid: Grid, ste: Ste, kernels: Kernels
) -> tuple[Tensor, Gradients]:
    """x_hat and the gradients."""
    x = x.detach().requires_grad_()
    alpha, sigma = (torch.tensor(one, requires_grad=True) for one in (ALPHA, SIGMA))
    z = None if z is None else z.detach().requires_grad_()
    inputs = [x, alpha, sigma] + ([] if z is None else [z])
    hat = quantize(x, alpha, sigma, z, grid=grid, ste=ste, kernels=kernels)
    found = torch.autograd.grad(hat, inputs, G, allow_unused=ste == "plain")
    return hat.detach(), Gradients(
        found[0], found[1], found[2], found[3] if len(found) > 3 else None
    )


@pytest.mark.parametrize("ste", ["max", "plain"])
@pytest.mark.parametrize(("bits", "kind_and_sharing"), list(product([2, 4, 8], GRIDS)))
def test_float32_gives_the_numbers_of_the_eager_kernels(
    bits: int, kind_and_sharing: tuple[GridKind, Sharing], ste: Ste
) -> None:
    grid = make_grid(kind_and_sharing[0], bits, kind_and_sharing[1])
    x, G, z = values(grid)
    eager, compiled = (run(x, G, z, grid, ste, one) for one in (EAGER, COMPILED))
    is_alike = (
        eager[0] - compiled[0]
    ).abs() < ALPHA / 2  # elsewhere two points are equally likely

    assert float(is_alike.float().mean()) > 0.999
    if z is None:
        assert torch.equal(eager[0], compiled[0])
    scale = float(eager[1].x.abs().max())
    assert torch.allclose(eager[1].x[is_alike], compiled[1].x[is_alike], atol=2e-4 * scale)
    if bool(is_alike.all()):
        for one, other in zip(eager[1][1:], compiled[1][1:], strict=True):
            if one is not None and other is not None:
                terms = scale * len(x) ** 0.5
                assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * terms)


def test_numbers_do_not_depend_on_the_threads_or_on_the_memory_format() -> None:
    grid = make_grid("full", 4, "bitwise")
    x, G, z = values(grid, 2 * 3 * 80 * 90 + 10_000)
    x, G = (one[: 2 * 3 * 80 * 90].view(2, 3, 80, 90) for one in (x, G))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run(x, G, z, grid, "max", COMPILED)
        torch.set_num_threads(2)
        together = run(x, G, z, grid, "max", COMPILED)
    finally:
        torch.set_num_threads(before)
    last = run(x.contiguous(memory_format=torch.channels_last), G, z, grid, "max", COMPILED)

    assert torch.equal(alone[0], together[0]) and torch.equal(alone[0], last[0])
    for one, other in zip(alone[1], together[1], strict=True):
        assert one is not None and other is not None and torch.equal(one, other)
    assert torch.equal(alone[1].x, last[1].x)
    assert last[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_processor_without_wide_vectors_finds_the_same_another_way(bits: int) -> None:
    grid = make_grid("unsigned", bits, "bitwise")
    x, G, z = values(grid)
    narrow = kernels_with((*native.FLAGS, "-U__AVX512F__"))
    hat, found = run(x, G, z, grid, "max", COMPILED)
    other_hat, other = run(x, G, z, grid, "max", narrow)
    scale = float(found.x.abs().max())

    assert torch.equal(hat, other_hat)
    assert torch.allclose(found.x, other.x, rtol=1e-4, atol=1e-5 * scale)
    for one, another in zip(found[1:], other[1:], strict=True):
        assert one is not None and another is not None
        assert torch.allclose(one, another, rtol=1e-4, atol=1e-5 * len(x) ** 0.5)


@pytest.mark.parametrize("sharing", ["off", "bitwise"])
@pytest.mark.parametrize("ste", ["max", "plain"])
def test_what_is_not_a_number_stays_so(sharing: Sharing, ste: Ste) -> None:
    grid = make_grid("sym", 4, sharing)
    x, G, z = values(grid)
    x[1234] = torch.nan
    hat, found = run(x, G, z, grid, ste, COMPILED)

    assert hat.isnan().nonzero().flatten().tolist() == [1234]
    assert found.alpha.isnan()


def test_an_empty_tensor_is_quantized_too() -> None:
    hat, _ = run(torch.empty(0), torch.empty(0), None, make_grid("sym", 4), "max", COMPILED)

    assert hat.numel() == 0


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match="'eagre'"):
        kernels_of("eagre")


def test_a_library_is_compiled_once_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "kernels"))
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }')
    first = native.library.__wrapped__(source)
    (built,) = (tmp_path / "kernels").iterdir()
    made = built.stat().st_mtime_ns
    again = native.library.__wrapped__(source)

    assert first.one() == again.one() == 1
    assert built.stat().st_mtime_ns == made
    source.write_text('extern "C" int one() { return 2; }')
    assert native.library.__wrapped__(source).one() == 2


def test_a_source_that_does_not_compile_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path / "kernels"))
    source = tmp_path / "wrong.cpp"
    source.write_text("no such language")

    with pytest.raises(InputError, match=r"cannot compile wrong\.cpp: ") as raised:
        native.library.__wrapped__(source)
    assert "\n" not in str(raised.value)
    assert SOURCE.exists()
