"""Raw facts: what was counted on one split at one allocation, and one round of such counts."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any, Literal, get_args

from bitsweep.bits import Allocation, parse_allocation
from bitsweep.cost import Layer, LayerBits, SampleCosts

Split = Literal["validation", "test"]
Allocator = Literal[
    "fixed", "learned", "shuffled", "random", "greedy", "evolutionary", "ilp", "cascade", "oracle"
]
ORACLE: Allocator = "oracle"
# What an arm answers for: bits that it was given, and bits that it chose. The others are rivals.
OWN_ALLOCATORS: tuple[Allocator, ...] = ("fixed", "learned")
Protocol = Literal["running", "re-estimated"]
Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number that measurements have: its name, with its unit in it, and which end is better.

    `top1_percent` comes from counts; any other is the mean over samples of a summed metric.
    """

    name: str
    goal: Goal
    meaning: str


TOP1 = Metric(name="top1_percent", goal="maximize", meaning="right answers in percent")
LOSS = Metric(name="loss", goal="minimize", meaning="mean training loss over samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was counted on `total` samples of one split at one allocation: counts and sums only.

    `sums` holds sums over samples, "loss" among them; `layer_bits` has one entry per layer of the
    model, in order. `agent` is what chose the bits of each sample, if it has a cost; its bits are
    then the last entry. `sample_costs` tells how the BitOps spread, where samples have bits of
    their own. `answers` has one bit per sample in the order of the split, 1 where it was right;
    the first sample is the highest bit of the first byte, and the last byte is filled with zeros.
    Percents and means are derived where tables are made.
    """

    split: Split
    allocation: Allocation
    total: int
    correct: int | None
    sums: Mapping[str, float]
    layer_bits: tuple[LayerBits, ...]
    allocator: Allocator = "fixed"
    lambda_: float | None = None
    protocol: Protocol = "running"
    agent: Layer | None = None
    sample_costs: SampleCosts | None = None
    answers: bytes | None = None

    def __post_init__(self) -> None:
        if self.split not in get_args(Split) or self.allocator not in get_args(Allocator):
            raise ValueError(f"unknown split or allocator: {self.split}, {self.allocator}")
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"unknown protocol: {self.protocol}")
        if self.total < 1 or (self.correct is not None and not 0 <= self.correct <= self.total):
            raise ValueError(f"{self.correct} correct of {self.total} cannot be")
        for name, value in self.sums.items():
            if not isfinite(value):
                raise ValueError(f"the sum of {name} is not finite")
        if not self.layer_bits:
            raise ValueError("a measurement carries the bits of its layers")
        if self.agent is not None and self.agent.place != "agent":
            raise ValueError(f"an agent has no place in the network, got {self.agent.place}")
        if self.sample_costs is not None and self.sample_costs.total != self.total:
            raise ValueError(f"costs of {self.sample_costs.total} samples, but {self.total} ran")
        if self.answers is not None and not self._agrees(self.answers):
            raise ValueError(f"the answers are none to {self.correct} right of {self.total}")

    def _agrees(self, answers: bytes) -> bool:
        """As many bits as samples, and as many ones as right answers."""
        unused = -self.total % 8
        number = int.from_bytes(answers)
        is_padded = number & ((1 << unused) - 1) == 0
        is_whole = 8 * len(answers) == self.total + unused
        return is_whole and is_padded and number.bit_count() == self.correct

    @property
    def key(self) -> tuple[str, str, str, float | None, str]:
        """What tells it from the other measurements of one evaluation."""
        return (self.split, self.allocation.label, self.allocator, self.lambda_, self.protocol)

    def metric(self, name: str) -> float:
        """`top1_percent` or the mean over samples of a summed metric; KeyError if not measured."""
        if name == "top1_percent":
            if self.correct is None:
                raise KeyError(name)
            return 100.0 * self.correct / self.total
        return self.sums[name] / self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One round of measurements: after `epoch` epochs, `seconds` and `examples` of training."""

    epoch: int
    seconds: float
    examples: int
    measurements: tuple[Measurement, ...] = field(default=())

    def __post_init__(self) -> None:
        keys = [one.key for one in self.measurements]
        if min(self.epoch, self.seconds, self.examples) < 0 or len(set(keys)) != len(keys):
            raise ValueError(f"evaluation of epoch {self.epoch}: negative, or a key twice: {keys}")
        if not isfinite(self.seconds):
            raise ValueError(f"evaluation of epoch {self.epoch}: its seconds are not finite")

    def without_answers(self) -> "Evaluation":
        """The same counts, without which samples were right."""
        if all(one.answers is None for one in self.measurements):
            return self
        plain = tuple(replace(one, answers=None) for one in self.measurements)
        return replace(self, measurements=plain)


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """Plain JSON values for the outbox and the wire."""
    return {
        "epoch": evaluation.epoch,
        "seconds": evaluation.seconds,
        "examples": evaluation.examples,
        "measurements": [_measurement_document(one) for one in evaluation.measurements],
    }


def _measurement_document(one: Measurement) -> dict[str, Any]:
    return {
        "split": one.split,
        "allocation": one.allocation.label,
        "allocator": one.allocator,
        "lambda": one.lambda_,
        "protocol": one.protocol,
        "correct": one.correct,
        "total": one.total,
        "sums": dict(one.sums),
        "layer_bits": [
            [b.weight, b.activation, b.stored, b.scalars, b.norm_copies, b.share, b.copies]
            for b in one.layer_bits
        ],
        "agent": None if one.agent is None else asdict(one.agent),
        "sample_costs": None if one.sample_costs is None else one.sample_costs.points,
        "answers": None if one.answers is None else b64encode(one.answers).decode(),
    }


def parse_evaluation(document: Mapping[str, Any]) -> Evaluation:
    """The inverse of `evaluation_document`."""
    return Evaluation(
        epoch=document["epoch"],
        seconds=document["seconds"],
        examples=document["examples"],
        measurements=tuple(_parse_measurement(one) for one in document["measurements"]),
    )


def _parse_measurement(one: Mapping[str, Any]) -> Measurement:
    fields = ("weight", "activation", "stored", "scalars", "norm_copies", "share", "copies")
    # An outbox of an earlier version has no copies (one, then), nor costs and answers by sample.
    rows = [[*row, 1] if len(row) == len(fields) - 1 else row for row in one["layer_bits"]]
    points, answers = one.get("sample_costs"), one.get("answers")
    return Measurement(
        split=one["split"],
        allocation=parse_allocation(one["allocation"]),
        allocator=one["allocator"],
        lambda_=one["lambda"],
        protocol=one["protocol"],
        correct=one["correct"],
        total=one["total"],
        sums=one["sums"],
        layer_bits=tuple(LayerBits(**dict(zip(fields, row, strict=True))) for row in rows),
        agent=None if one["agent"] is None else Layer(**one["agent"]),
        sample_costs=None
        if points is None
        else SampleCosts(points=tuple((float(value), int(count)) for value, count in points)),
        answers=None if answers is None else b64decode(answers),
    )
