"""The seam to what writes a trained network to a file, and what it tells of that file."""

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol

from bitsweep.bits import Bits
from bitsweep.cost import DEFAULT_CONVENTION, Convention
from bitsweep.plugins import load, look_up
from bitsweep.trial import Trial

EXPORTERS = "bitsweep.exporters"
ExportForm = Literal["packed", "onnx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SameLogits:
    """How an exported file compares with the trained network at one width, on validation samples.

    `bits` is the label of the width, or of the allocation that a file has for good. `num_apart`
    counts samples of which an output differs by more than float sums do. `largest_difference` is
    None where NaN or infinity stands against something else. A regression has no answers that
    could agree or be right: None.
    """

    bits: str
    images: int
    largest_difference: float | None
    largest_logit: float
    num_apart: int
    num_agreeing: int | None
    num_correct: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SameLayers:
    """How each operation of a graph compares with the network's, fed with the network's values.

    `num_codes` rounded values were compared, of which `num_at_edges` differ by one code because
    they lie at the edge between two. `apart` names the operations that differ otherwise.
    `num_source_apart` of `num_images` samples have other outputs in the network that the graph
    was drawn from than in the trained one.
    """

    num_images: int
    num_compared: int
    num_codes: int
    num_at_edges: int
    apart: tuple[str, ...]
    num_source_apart: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote; payload_bits, what the model takes, is None for ONNX.

    policy_bits: what a learned policy takes besides, which no size of the model claims.
    convention: that of the claimed size. layers: None for a packed file, whose outputs are
    those of the trained network; another runtime's are not, and are judged by its layers.
    """

    payload_bits: int | None
    padding_bits: int
    header_bytes: int
    file_bytes: int
    claimed_bits: int
    widths: tuple[SameLogits, ...]
    policy_bits: int = 0
    convention: Convention = DEFAULT_CONVENTION
    layers: SameLayers | None = None


class Exporter(Protocol):
    """Writes the network of a trial's checkpoint to a file, reads it back and compares them.

    bits: the one width of a form that holds one; None: the largest. Raises InputError for what
    the form cannot hold, OSError for a place that cannot be written.
    """

    def __call__(
        self,
        trial: Trial,
        checkpoint: Path,
        output: Path,
        /,
        *,
        form: ExportForm,
        bits: Bits | None,
    ) -> Exported: ...


def load_exporter(name: str) -> Exporter:
    """The exporter of the trainer of that name; UnknownName if it has none."""
    found = {entry.name: entry for entry in entry_points(group=EXPORTERS)}
    exporter: Exporter = load(look_up("exporter", name, found))
    return exporter
