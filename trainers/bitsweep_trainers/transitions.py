"""Bit-Mixer's batch norms, and the layer-wise bits they depend on (arXiv 2103.17267).

One norm per pair (bits of the layer before it, bits of the layer that reads its output).
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import product

from torch import Tensor, nn

from bitsweep_trainers.layers import END_BITS, Computing, quantized_layers
from bitsweep_trainers.methods.declared.bit_mixer import reader_of
from bitsweep_trainers.packed.pack import Place, folded
from bitsweep_trainers.packed.records import NormRecord
from bitsweep_trainers.switchable import Norm


class TransitionalNorm(nn.Module):
    """Batch norms by (bits before, bits after), all begun as copies of the given one.

    producer, consumer: index of the body layer before and of the one behind; None: an 8-bit end.
    """

    def __init__(
        self,
        norm: Norm,
        *,
        widths: Sequence[int],
        producer: int | None,
        consumer: int | None,
    ) -> None:
        super().__init__()
        self.producer = producer
        self.consumer = consumer
        before = [END_BITS] if producer is None else widths
        after = [END_BITS] if consumer is None else widths
        self.norms = nn.ModuleDict(
            {_name(one, other): deepcopy(norm) for one, other in product(before, after)}
        )
        self.current = next(iter(self.norms))

    def allocate(self, widths: Sequence[int]) -> None:
        """Select the norm for these bits of the body's layers."""
        before = END_BITS if self.producer is None else widths[self.producer]
        after = END_BITS if self.consumer is None else widths[self.consumer]
        self.current = _name(before, after)

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) of the same shape."""
        output: Tensor = self.norms[self.current](values)
        return output

    def pack_part(self, place: Place) -> NormRecord:
        """What a packed file keeps: each pair's; an end is no layer of the body and counts 8."""
        paths = ["" if one is None else place.body[one] for one in (self.producer, self.consumer)]
        copies = {name: folded(norm) for name, norm in self.norms.items()}
        return NormRecord(keyed_by=tuple(paths), copies=copies)


def _name(before: int, after: int) -> str:
    return f"{before}_{after}"


def add_transitional_norms(network: nn.Module, widths: Sequence[int]) -> None:
    """Put transitional norms in the place of the stem's and the body's batch norms.

    In the order of `modules()`, that of execution, a norm follows its layer.
    """
    parts = [
        (path, one) for path, one in network.named_modules() if isinstance(one, Computing | Norm)
    ]
    names = [path for path, one in parts if isinstance(one, Computing)]
    body = [path for path in names if path.startswith("body.")]
    index = {path: number for number, path in enumerate(body)}
    num_before = 0
    for path, one in parts:
        if isinstance(one, Computing):
            num_before += 1
            continue
        producer = names[num_before - 1]
        norm = TransitionalNorm(
            one,
            widths=widths,
            producer=index.get(producer),
            consumer=index.get(reader_of(names, num_before - 1)),
        )
        network.set_submodule(path, norm)


def allocate(network: nn.Module, widths: Sequence[int]) -> None:
    """Run the body's layers, in `modules()` order, at these bits; lossless, both ways."""
    layers = quantized_layers(network.get_submodule("body"))
    for (_, layer), bits in zip(layers, widths, strict=True):
        layer.weight_quantizer.bits = bits  # type: ignore[assignment]  # a plain int
        layer.input_quantizer.bits = bits  # type: ignore[assignment]
    for module in network.modules():
        if isinstance(module, TransitionalNorm):
            module.allocate(widths)
