"""What methods, models, data and trainers declare of themselves, free of torch.

So `validate`, `methods`, `--dry-run` and the arithmetic of costs are quick.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bitsweep.bits import Bits, Rule
from bitsweep.cost import Layer, LayerBits
from bitsweep.measurement import LOSS, TOP1, Metric
from bitsweep.plugins import look_up
from bitsweep.recipe import Recipe, recipe_document
from bitsweep.space import Parameter, Parameters, Value

Shape = tuple[int, ...]
DataKind = Literal["images", "series", "vectors"]
Learning = Literal["classification", "regression"]
_UNPROVED_TOGETHER = frozenset({"ema_decay", "micro_batch_size", "precision"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerDeclaration:
    """What a trainer says of itself: what it learns from which data, and what it measures.

    `metrics`: the first is the one a sweep is judged by unless its objective names another.
    """

    name: str
    title: str
    learning: Learning
    data_kinds: tuple[DataKind, ...]
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDeclaration:
    """What a quantization method says of itself without torch.

    serves: "one" trains a network per bit-width, "all" one network for all of them.
    weight_bits: the widths it can do; what is really measured tells `allocation_bits`.
    layer_bits(layers, bits, parameters, all_bits): the arithmetic of its cost at one width,
    all_bits being every width of the trial. canonical(parameters, all_bits): one spelling for
    parameters that mean the same. check(parameters, all_bits): ValueError for what cannot be;
    check_data(parameters, data): the same for data that do not fit them.
    takes_signed_inputs: False for one that clips the inputs of the body's layers at 0.
    settle(parameters, all_bits, layers, batch): replaces what is left open ("auto") by what the
    task decides, and what changes nothing in its model by the usual value, before `canonical`;
    batch counts the images computed at once.
    needs_start_when: parameters at whose values it needs a trained network too.
    needs_classes_when: parameters at whose values it needs classes, whatever `learning` says.
    keeps_plain(parameters, all_bits): its network has the plain one's tensors by their names, so
    that another training can begin with its checkpoint.
    refuses: options of a recipe that would mean nothing to it, and workers_per_trial above 1 if it
    cannot be trained so; each with the reason.
    learned_from(parameters): the bits that its learning of bits starts from; None: they are given.
    numerics_of(parameters): further numbers like `numerics`, of what only some parameters switch
    on, so that a change there leaves all other trials what they are.
    bit_prices: parameters that accuracy alone would set to what costs most bits.
    takes_allocations: it can run given bits per layer (`Trial.allocation`).
    has_kernels: what it trains is quantized by kernels of a backend; to others all are one.
    groups_seeds: seeds of one configuration can be trained as one grouped network.
    held_share(parameters): of the training images, those it keeps from the network to learn or to
    choose something on them; what the network starts from must not have seen them either.
    least_held: so many images it must hold out, where it holds any.
    numerics_on: `numerics` on models, by name, on which it is another than elsewhere.
    rules(parameters, all_bits): those that choose bits per sample and are measured, rivals too.
    """

    name: str
    title: str
    source: str
    serves: Literal["one", "all"]
    weight_bits: tuple[int, ...]
    numerics: int
    parameters: tuple[Parameter, ...]
    layer_bits: Callable[
        [Sequence[Layer], Bits, Parameters, tuple[Bits, ...]], tuple[LayerBits, ...]
    ]
    layer_kinds: tuple[str, ...] = ("conv", "linear")
    takes_signed_inputs: bool = True
    learning: tuple[Learning, ...] = ("classification",)
    trains: bool = True
    needs_start: bool = False
    needs_start_when: Mapping[str, Value] = field(default_factory=dict)
    needs_classes_when: Mapping[str, Value] = field(default_factory=dict)
    keeps_plain: Callable[[Parameters, tuple[Bits, ...]], bool] = lambda given, bits: True
    canonical: Callable[[Parameters, tuple[Bits, ...]], Parameters] = lambda given, bits: given
    check: Callable[[Parameters, tuple[Bits, ...]], None] = lambda given, bits: None
    check_data: Callable[[Parameters, "DataDeclaration"], None] = lambda given, data: None
    settle: Callable[[Parameters, tuple[Bits, ...], Sequence[Layer], int], Parameters] = (
        lambda given, bits, layers, batch: given
    )
    summary: tuple[str, ...] = field(default=())
    learned_from: Callable[[Parameters], Bits | None] = lambda given: None
    numerics_of: Callable[[Parameters], Mapping[str, int]] = lambda given: {}
    bit_prices: tuple[str, ...] = ()
    takes_allocations: bool = False
    has_kernels: bool = False
    groups_seeds: bool = False
    held_share: Callable[[Parameters], float] = lambda given: 0.0
    least_held: int = 0
    numerics_on: Mapping[str, int] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    rules: Callable[[Parameters, tuple[Bits, ...]], tuple[Rule, ...]] = lambda given, bits: ()

    def refused(
        self, precision: str, recipe: Recipe, *, workers: int = 1, seeds_together: int = 1
    ) -> tuple[str, str] | None:
        """The first option that this method refuses, and why in a sentence; None if there is none.

        What trains nothing has no recipe, and refuses nothing. Over several workers, and with
        several seeds together, whatever was not proved to give the numbers of one is refused.
        """
        asked = recipe_document(recipe) | ({} if precision == "fp32" else {"precision": precision})
        reasons = dict(self.refuses)
        if workers > 1:
            alone = set(asked) & _UNPROVED_TOGETHER
            asked["workers_per_trial"] = workers
            if alone:
                reasons["workers_per_trial"] = f"with {min(alone)} it is not proved to be right"
        if seeds_together > 1:
            unproved = set(asked) & (_UNPROVED_TOGETHER | {"workers_per_trial"})
            asked["seeds_together"] = seeds_together
            if not self.groups_seeds:
                reasons["seeds_together"] = "its seeds cannot share a network"
            elif unproved:
                reasons["seeds_together"] = f"with {min(unproved)} it is not proved to be right"
        for name, reason in reasons.items():
            if self.trains and name in asked:
                return name, f"{self.name} cannot be trained with {name} = {asked[name]}: {reason}"
        return None

    def learns_bits(self, parameters: Parameters) -> bool:
        """Whether its bits are a result: it trains one network, whatever bits are asked for."""
        return self.learned_from(parameters) is not None

    def allocation_bits(self, bits: Bits, parameters: Parameters) -> Bits:
        """The bits that are really measured when a task asks for `bits`.

        A method without quantization runs at 32; a fixed `activation_bits` replaces the tied
        ones. Where bits are a result: those that the learning starts from.
        """
        if (first := self.learned_from(parameters)) is not None:
            return first
        if self.weight_bits == (32,):
            return Bits(weight=32, activation=32)
        fixed = parameters.get("activation_bits", "tied")
        if fixed == "tied":
            return bits
        return Bits(weight=bits.weight, activation=int(fixed))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDeclaration:
    """A network family: its layers with MACs and weights, as arithmetic.

    layers(input_shape, classes) -> the layers in order of execution; the shape is that of a sample
    of its data: images (channels, height, width), series (channels, length), vectors (numbers,).
    `least_side`: the least height and width, length, or count of numbers it can be built for.
    """

    name: str
    title: str
    source: str
    numerics: int
    layers: Callable[[Shape, int], tuple[Layer, ...]]
    data_kind: DataKind = "images"
    least_side: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDeclaration:
    """A data set: shape of a sample, classes (outputs of a regression), sizes of its splits.

    `sha256` is that of the decoded arrays, or of what else names the content (`identified_by`
    says what); `is_shipped` says that it comes with the package; `path` is where a data set lies
    that a sweep names by its path.
    """

    name: str
    title: str
    source: str
    sha256: str
    shape: Shape
    classes: int
    sizes: Mapping[str, int]
    split_rule: str
    is_shipped: bool = False
    kind: DataKind = "images"
    identified_by: Literal["arrays", "files"] = "arrays"
    path: str | None = None


def nothing_missing() -> str | None:
    """What a package says of compilers that has no kernels."""
    return None


def no_weights_known(path: str, model: str, data: DataDeclaration) -> None:
    """What a package says of files of weights that reads none."""


def gpus_unknown() -> int | None:
    """What a package says of GPUs that does not look for them."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """Everything that is declared, by name; the lookups raise UnknownName with the nearest one."""

    methods: Mapping[str, MethodDeclaration]
    models: Mapping[str, ModelDeclaration]
    data: Mapping[str, DataDeclaration]
    loop_numerics: int = 1
    trainers: Mapping[str, TrainerDeclaration] = field(default_factory=dict)
    data_of_path: Callable[[Path], DataDeclaration] | None = None
    missing_compiler: Callable[[], str | None] = nothing_missing
    check_weights: Callable[[str, str, DataDeclaration], None] = no_weights_known
    num_gpus: Callable[[], int | None] = gpus_unknown

    def method(self, name: str) -> MethodDeclaration:
        """The method of that name."""
        return look_up("method", name, self.methods)

    def model(self, name: str) -> ModelDeclaration:
        """The model of that name."""
        return look_up("model", name, self.models)

    def data_set(self, name: str) -> DataDeclaration:
        """The data set of that name, or what lies at that path; InputError if it cannot be read.

        A name with a slash in it is a path.
        """
        if "/" in name and self.data_of_path is not None:
            return self.data_of_path(Path(name))
        return look_up("data set", name, self.data)

    def trainer(self, name: str) -> TrainerDeclaration | None:
        """What the trainer of that name declares; None for one that declares nothing."""
        return self.trainers.get(name)

    def metrics(self, trainer: str) -> tuple[Metric, ...]:
        """What a trainer measures; one that declares nothing counts right answers and a loss."""
        declared = self.trainer(trainer)
        return (TOP1, LOSS) if declared is None else declared.metrics
