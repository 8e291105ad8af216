"""Bit-widths: one pair of them, and an allocation of pairs to the layers of a network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

FULL_PRECISION_BITS = 32
# Stands for the bits of trials whose bits are a result: in labels, columns and comparisons.
LEARNED = "learned"
POLICY = "policy:"
_LABEL = re.compile(r"w(\d+)a(\d+)")
_RULE = re.compile(r"([a-z]+)@(\d+(?:\.\d+)?(?:e-?\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Bits:
    """Bits of a layer's weights and of its input activations; 32 is floating point.

    >>> Bits(weight=4, activation=8).label
    'w4a8'
    """

    weight: int
    activation: int

    def __post_init__(self) -> None:
        for value in (self.weight, self.activation):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"bits are whole numbers, got {value!r}")
            if not 1 <= value <= FULL_PRECISION_BITS:
                raise ValueError(f"bits lie between 1 and 32, got {value}")

    @property
    def label(self) -> str:
        """The canonical name, such as w4a4."""
        return f"w{self.weight}a{self.activation}"

    @property
    def is_full_precision(self) -> bool:
        """True when neither weights nor activations are quantized."""
        return self.weight == self.activation == FULL_PRECISION_BITS


def tied(bits: int) -> Bits:
    """The same bits for weights and activations."""
    return Bits(weight=bits, activation=bits)


FULL_PRECISION = tied(FULL_PRECISION_BITS)


def parse_bits(text: str | int) -> Bits:
    """Read `3` or "w3a3"; raise ValueError that says what was expected.

    >>> parse_bits("w4a8")
    Bits(weight=4, activation=8)
    """
    if isinstance(text, int):
        return tied(text)
    found = _LABEL.fullmatch(text)
    if found is None:
        raise ValueError(f"expected bits such as 4 or 'w4a4', got {text!r}")
    return Bits(weight=int(found[1]), activation=int(found[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Which bits the layers of a network's body run at.

    One entry: every body layer. Several: one per body layer, in order. `policy` names a rule that
    chooses bits per sample; then `layers` is empty and the shares stand in the layer bits.

    >>> Allocation.uniform(tied(4)).label
    'w4a4'
    >>> Allocation(layers=(tied(2), Bits(weight=3, activation=4))).label
    'w=[2,3] a=[2,4]'
    """

    layers: tuple[Bits, ...]
    policy: str | None = None

    def __post_init__(self) -> None:
        if bool(self.layers) == (self.policy is not None):
            raise ValueError("an allocation has either layers or the name of a policy")

    @classmethod
    def uniform(cls, bits: Bits) -> "Allocation":
        """The same bits in every layer of the body."""
        return cls(layers=(bits,))

    @classmethod
    def of(cls, layers: Sequence[Bits]) -> "Allocation":
        """The bits of the body's layers in the one spelling: equal ones are uniform.

        >>> Allocation.of([tied(4), tied(4)]).label
        'w4a4'
        """
        return cls(layers=tuple(layers) if len(set(layers)) > 1 else tuple(layers[:1]))

    def spelled_out(self, num_layers: int) -> str:
        """The label with an entry per layer of a body; learned bits were so named before `of`."""
        if len(self.layers) != 1 or num_layers == 1:
            return self.label
        return Allocation(layers=self.layers * num_layers).label

    @property
    def label(self) -> str:
        """The canonical name; equal labels over equal layers mean equal allocations."""
        if self.policy is not None:
            return f"{POLICY}{self.policy}"
        if len(self.layers) == 1:
            return self.layers[0].label
        weights = ",".join(str(bits.weight) for bits in self.layers)
        activations = ",".join(str(bits.activation) for bits in self.layers)
        return f"w=[{weights}] a=[{activations}]"


def parse_allocation(label: str) -> Allocation:
    """Read a label back; raise ValueError for anything that is no label."""
    if label.startswith(POLICY):
        return Allocation(layers=(), policy=label.removeprefix(POLICY))
    found = re.fullmatch(r"w=\[([\d,]+)\] a=\[([\d,]+)\]", label)
    if found is None:
        return Allocation.uniform(parse_bits(label))
    pairs = zip(found[1].split(","), found[2].split(","), strict=True)
    return Allocation(layers=tuple(Bits(weight=int(w), activation=int(a)) for w, a in pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who chooses bits per sample, or stands beside it, at a price of BitOps (lambda).

    >>> Rule(allocator="learned", price=0.05).label
    'policy:learned@0.05'
    """

    allocator: str
    price: float

    @property
    def label(self) -> str:
        """That of the allocation it gives."""
        return f"{POLICY}{self.allocator}@{self.price:g}"


def parse_rule(text: str) -> Rule:
    """Read "learned@0.05", or the label of a table; raise ValueError for anything else.

    >>> parse_rule("policy:shuffled@0.2").price
    0.2
    """
    found = _RULE.fullmatch(text.removeprefix(POLICY))
    if found is None:
        raise ValueError(f"expected a rule at a lambda such as 'learned@0.05', got {text!r}")
    return Rule(allocator=found[1], price=float(found[2]))


def one_name(label: str) -> str:
    """The label that equal bits in all layers have in one spelling; others are left.

    >>> one_name("w=[4,4] a=[8,8]"), one_name("w=[2,4] a=[8,8]")
    ('w4a8', 'w=[2,4] a=[8,8]')
    """
    allocation = parse_allocation(label)
    return Allocation.of(allocation.layers).label if allocation.layers else label


def is_policy(label: str) -> bool:
    """Whether a label names a rule that chooses bits per sample."""
    return label.startswith(POLICY)


def labels(bits: Sequence[Bits]) -> str:
    """A readable list such as "w2a2, w3a3"."""
    return ", ".join(one.label for one in bits)
