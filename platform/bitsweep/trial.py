"""A trial: one training with everything that determines its numbers, named by its content.

Device, versions and host are provenance and stay out of the identity.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from bitsweep.bits import LEARNED, Bits, parse_bits
from bitsweep.measurement import Split
from bitsweep.recipe import PLAIN, Recipe, parse_recipe, recipe_document
from bitsweep.space import Parameters

IDENTITY_VERSION = 1
UNKNOWN_ALLOCATION = "unknown"
SHORT_ID_LENGTH = 12
_PLACES = ("data_path", "weights_path")


def canonical_json(document: object) -> str:
    """The one spelling of a JSON document: sorted keys, no spaces, no NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(document: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a document."""
    return sha256(canonical_json(document).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run; two trials with equal content have equal ids and are the same trial.

    `parameters` are resolved (defaults filled in, inert ones removed). `bits` are all widths the
    one network serves. `start` is the id of the trial whose checkpoint it starts from. `numerics`
    are the integers that method, model and loop declare; they change when their numbers change.
    `splits` are the splits it measures: test only where a sweep confirms. `weights_sha256` is the
    content of the file its network begins with. The paths say where data and weights lie and are
    no part of the identity. Of the `recipe` only what differs from its defaults is part of it.

    `learns_bits`: its allocation is a result, and `bits` is what the learning starts from.
    `allocation`: the label of the allocation that it was given, taken from another trial's result;
    `bits` is then its widest pair. It is "unknown" in a trial that could not be run, because what
    it takes from did not finish. `is_grouped`: it is trained as part of one network with others
    that differ in seed and start alone; who and how many these are changes no more than a device
    does, the last digits, and is no part of the identity. `held_share`: it is a start, and this
    share of the training images is held out by what starts from it; it leaves out the same ones.
    """

    trainer: str
    method: str
    model: str
    data: str
    data_sha256: str
    split_rule: str
    bits: tuple[Bits, ...]
    parameters: Parameters
    epochs: int
    batch_size: int
    seed: int
    numerics: Mapping[str, int]
    splits: tuple[Split, ...] = ("validation",)
    start: str | None = None
    precision: str = "fp32"
    world_size: int = 1
    threads: int = 1
    backend: str = "eager"
    data_path: str | None = None
    weights_path: str | None = None
    weights_sha256: str | None = None
    recipe: Recipe = PLAIN
    learns_bits: bool = False
    allocation: str | None = None
    sync_batch_norm: bool = False
    is_grouped: bool = False
    held_share: float = 0.0

    def __post_init__(self) -> None:
        if self.has_learned_bits and len(self.bits) != 1:
            raise ValueError("a trial with an allocation per layer has one pair of bits")
        if self.learns_bits and self.allocation is not None:
            raise ValueError("a trial learns its allocation or is given one, not both")
        if not self.bits or list(self.bits) != sorted(set(self.bits)):
            raise ValueError("a trial's bits are ascending, each once, at least one")
        if min(self.epochs, self.seed) < 0 or min(self.batch_size, self.threads) < 1:
            raise ValueError("epochs and seed are >= 0, batch size and threads >= 1")
        if not 0 <= self.held_share < 1:
            raise ValueError(f"held_share is a share of the images, got {self.held_share}")

    @cached_property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of the content."""
        document = trial_document(self)
        for name in _PLACES:
            document.pop(name, None)
        return digest({"version": IDENTITY_VERSION} | document)

    @cached_property
    def companion_key(self) -> str:
        """Equal for trials that are equal but for their seed and for the trial they start from."""
        return replace(self, seed=0, start=None if self.start is None else "any").id

    @property
    def short_id(self) -> str:
        """The first digits of the id, enough to name it on a command line."""
        return self.id[:SHORT_ID_LENGTH]

    @property
    def has_learned_bits(self) -> bool:
        """Its bits were learned, by itself or by the trial that it takes them from."""
        return self.learns_bits or self.allocation is not None

    @property
    def bits_label(self) -> str:
        """`w3a3` for one width, `w2a2+w3a3` for several, `learned` where bits are a result."""
        if self.has_learned_bits:
            return LEARNED
        return "+".join(one.label for one in self.bits)


def trial_document(trial: Trial) -> dict[str, Any]:
    """Plain JSON values: the content of the identity, and where files lie if there are any.

    What concerns files or learned bits alone is left out elsewhere: it leaves no trace in an id.
    """
    document = asdict(trial)
    for name in (*_PLACES, "weights_sha256", "allocation"):
        if document[name] is None:
            del document[name]
    if not trial.learns_bits:
        del document["learns_bits"]
    document["bits"] = [one.label for one in trial.bits]
    document["splits"] = list(trial.splits)
    del document["recipe"]
    if changed := recipe_document(trial.recipe):
        document["recipe"] = changed
    if not trial.sync_batch_norm:
        del document["sync_batch_norm"]  # as in the identities from before there was a choice
    if not trial.is_grouped:
        del document["is_grouped"]  # likewise
    if not trial.held_share:
        del document["held_share"]
    return document


def parse_trial(document: Mapping[str, Any]) -> Trial:
    """The inverse of `trial_document`."""
    fields = dict(document)
    fields["bits"] = tuple(parse_bits(label) for label in document["bits"])
    fields["splits"] = tuple(document["splits"])
    fields["recipe"] = parse_recipe(document.get("recipe", {}))
    return Trial(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Ran to its last epoch; `checkpoint` is the SHA-256 of the checkpoint, if one was kept."""

    epoch: int
    checkpoint: str | None = None


SIBLING_FAILED = "a sibling failed"
SIBLING_PRUNED = "a sibling was pruned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Stopped by a scheduler after `epoch`; what it measured is kept.

    So is a trial whose configuration has lost another one: `is_dropped` where that one failed,
    which is no scheduler's doing.
    """

    epoch: int
    reason: str = "stopped by the scheduler"

    @property
    def is_dropped(self) -> bool:
        """Given up because another trial of its configuration failed."""
        return self.reason == SIBLING_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """A loss or an activation was not finite."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An exception, a dead process or a time limit."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The user or the machine ended the run; it goes on at the next start."""

    reason: str = "interrupted"


Outcome = Finished | Pruned | Diverged | Failed | Interrupted
OUTCOMES: dict[str, type[Outcome]] = {
    "finished": Finished,
    "pruned": Pruned,
    "diverged": Diverged,
    "failed": Failed,
    "interrupted": Interrupted,
}


def status_of(outcome: Outcome) -> str:
    """The word for an outcome: finished, pruned, diverged, failed or interrupted."""
    return type(outcome).__name__.lower()
