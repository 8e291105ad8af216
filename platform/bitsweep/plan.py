"""From a sweep and a choice of parameters to trials: arithmetic on records and declarations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import file_digest
from pathlib import Path

from bitsweep.bits import LEARNED, Allocation, Bits, Rule
from bitsweep.cost import Convention, Layer, bitops, size_bits
from bitsweep.declaration import Declarations, MethodDeclaration
from bitsweep.errors import InputError
from bitsweep.measurement import Split
from bitsweep.recipe import PLAIN, canonical_recipe
from bitsweep.space import Parameters, resolve
from bitsweep.sweep import COST_METRICS, Arm, Objective, Stage, Sweep
from bitsweep.taking import by_layer
from bitsweep.trial import UNKNOWN_ALLOCATION, Trial, digest

SEARCH_SPLITS: tuple[Split, ...] = ("validation",)
CONFIRM_SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep together with what its methods, model and data declare; makes its trials."""

    sweep: Sweep
    declarations: Declarations

    def method(self, arm: Arm) -> MethodDeclaration:
        """The declaration of an arm's method."""
        return self.declarations.method(arm.method)

    @property
    def backend(self) -> str:
        """Which kernels quantize; "auto" is the compiled ones where they can be had.

        They know one network at a time: with seeds trained together "auto" is eager.
        """
        asked = self.sweep.task.backend
        if asked != "auto":
            return asked
        if self.sweep.resources.seeds_together > 1:
            return "eager"
        return "eager" if self.declarations.missing_compiler() else "compiled"

    def layers(self) -> tuple[Layer, ...]:
        """The layers of the task's model at the shape of its data."""
        data = self.declarations.data_set(self.sweep.task.data)
        return self.declarations.model(self.sweep.task.model).layers(data.shape, data.classes)

    def measured_bits(self, arm: Arm, parameters: Parameters) -> tuple[Bits, ...]:
        """The bits an arm is measured at, ascending, when it or the task asks for its bits."""
        method = self.method(arm)
        asked = arm.bits or self.sweep.task.bits
        return tuple(sorted({method.allocation_bits(one, parameters) for one in asked}))

    def rules(self, arm: Arm) -> tuple[Rule, ...]:
        """The rules for bits per sample that an arm measures, whatever its search finds."""
        method = self.method(arm)
        found = [
            method.rules(resolve(method.parameters, given), self.measured_bits(arm, given))
            for given in _settings(arm)
        ]
        return tuple(one for one in found[0] if all(one in some for some in found))

    def learns_bits(self, arm: Arm) -> bool:
        """Whether an arm's bits are a result of its own training."""
        return self.method(arm).learns_bits(arm.parameters)

    def has_learned_bits(self, arm: Arm) -> bool:
        """Whether an arm's bits are learned by it, or taken from where they were."""
        is_taken = arm.source is not None and arm.source.take == "allocation"
        return is_taken or self.learns_bits(arm)

    def studies(self, arm: Arm) -> dict[str, tuple[Bits, ...]]:
        """The studies of an arm by label, each with the bits whose value it optimises.

        Where bits are a result there is one, whatever bits the objective names: its value is that
        at the allocation which was learned.
        """
        measured = self.measured_bits(arm, arm.parameters)
        if self.has_learned_bits(arm):
            return {LEARNED: measured}
        return studies(self.sweep.objectives, measured)

    def held_share(self, arm: Arm) -> float:
        """The share of the training images that an arm holds out before its space is searched."""
        method, bits = self.method(arm), self.measured_bits(arm, arm.parameters)
        return method.held_share(self.resolved(method, arm.parameters, bits))

    def starts(self, seeds: Sequence[int]) -> Iterator[Trial]:
        """The starts that are needed whatever a search proposes, by seed."""
        shares = {self.held_share(arm) for arm in self.sweep.arms}
        for seed in seeds:
            for share in sorted(shares):
                if (start := self.start_trial(seed, held_share=share)) is not None:
                    yield start

    def start_of(self, trial: Trial) -> Trial | None:
        """The task's start, if it is what a trial begins from."""
        share = self.declarations.method(trial.method).held_share(trial.parameters)
        start = self.start_trial(trial.seed, held_share=share)
        return start if start is not None and start.id == trial.start else None

    def start_trial(self, seed: int, *, held_share: float = 0.0) -> Trial | None:
        """The training that arms start from with this seed; None if the task has no start.

        held_share: what these arms hold out of the training images; it does without them too.
        """
        task = self.sweep.task
        if task.start is None:
            return None
        method = self.declarations.method(task.start.method)
        bits = method.allocation_bits(task.bits[0], task.start.parameters)
        return self._trial(
            method,
            resolve(method.parameters, task.start.parameters),
            bits=(bits,),
            epochs=task.start.epochs,
            seed=seed,
            start=None,
            splits=SEARCH_SPLITS,
            is_confirmed=self.sweep.confirm is not None and seed in self.sweep.confirm.seeds,
            held_share=held_share,
        )

    def trials(
        self,
        arm: Arm,
        parameters: Parameters,
        *,
        seed: int,
        bits: Sequence[Bits],
        stage: Stage,
        start: str | None = None,
    ) -> tuple[Trial, ...]:
        """The trials of one configuration at one seed: one per width, or one for all widths.

        start: the trial whose checkpoint they start from, if it is not the task's start.
        """
        method = self.method(arm)
        given = {**arm.parameters, **parameters}
        widths = sorted(bits)
        groups = [tuple(widths)] if method.serves == "all" else [(one,) for one in widths]
        resolved = [self.resolved(method, given, group) for group in groups]
        return tuple(
            self._trial(
                method,
                values,
                bits=group,
                epochs=self.sweep.task.epochs if method.trains else 0,
                seed=seed,
                start=start or self._start_id(method, values, seed=seed),
                splits=CONFIRM_SPLITS if stage == "confirm" else SEARCH_SPLITS,
                is_confirmed=stage == "confirm",
                learns_bits=method.learns_bits(given),
            )
            for group, values in zip(groups, resolved, strict=True)
        )

    def _start_id(
        self, method: MethodDeclaration, parameters: Parameters, *, seed: int
    ) -> str | None:
        start = self.start_trial(seed, held_share=method.held_share(parameters))
        return None if start is None else start.id

    def resolved(
        self, method: MethodDeclaration, given: Parameters, bits: tuple[Bits, ...]
    ) -> Parameters:
        """Parameters in their one spelling: defaults in, open choices settled, inert ones out."""
        task = self.sweep.task
        settled = method.settle(
            resolve(method.parameters, given),
            bits,
            self.layers(),
            task.recipe.micro_batch_size or task.batch_size,
        )
        return method.canonical(settled, bits)

    def allocated_trial(
        self, arm: Arm, allocation: Allocation | None, *, seed: int, stage: Stage
    ) -> Trial:
        """The trial of an arm that takes an allocation; ValueError for bits it cannot do.

        None: what it should have been taken from did not finish; the trial stands for that. A
        fixed `activation_bits` of the arm replaces the activations' bits that were taken.
        """
        method = self.method(arm)
        layers = self.sweep.task.bits[:1]
        if allocation is not None:
            layers = tuple(
                method.allocation_bits(one, arm.parameters) for one in allocation.layers
            )
            allocation = Allocation.of(layers)
        for one in () if allocation is None else layers:
            if one.weight not in method.weight_bits:
                can = ", ".join(str(bits) for bits in method.weight_bits)
                raise ValueError(
                    f"{method.name} cannot do {one.weight}-bit weights: it does {can}"
                )
        widest = Bits(
            weight=max(one.weight for one in layers),
            activation=max(one.activation for one in layers),
        )
        parameters = self.resolved(method, arm.parameters, (widest,))
        return self._trial(
            method,
            parameters,
            bits=(widest,),
            epochs=self.sweep.task.epochs if method.trains else 0,
            seed=seed,
            start=self._start_id(method, parameters, seed=seed),
            splits=CONFIRM_SPLITS if stage == "confirm" else SEARCH_SPLITS,
            is_confirmed=stage == "confirm",
            allocation=UNKNOWN_ALLOCATION if allocation is None else allocation.label,
        )

    def _trial(
        self,
        method: MethodDeclaration,
        parameters: Parameters,
        *,
        bits: tuple[Bits, ...],
        epochs: int,
        seed: int,
        start: str | None,
        splits: tuple[Split, ...],
        is_confirmed: bool,
        learns_bits: bool = False,
        allocation: str | None = None,
        held_share: float = 0.0,
    ) -> Trial:
        """is_confirmed: it is of the confirm stage, or of a seed of that stage."""
        task, resources = self.sweep.task, self.sweep.resources
        is_confirmed_together = is_confirmed and resources.seeds_together > 1
        world_size = resources.workers_per_trial if epochs else 1
        data = self.declarations.data_set(task.data)
        model = self.declarations.model(task.model)
        return Trial(
            trainer=task.trainer,
            method=method.name,
            model=model.name,
            data=data.name,
            data_sha256=data.sha256,
            split_rule=data.split_rule,
            bits=bits,
            parameters=dict(parameters),
            epochs=epochs,
            batch_size=task.batch_size,
            seed=seed,
            data_path=data.path,
            weights_path=task.weights if start is None else None,
            weights_sha256=file_sha256(task.weights) if task.weights and start is None else None,
            numerics={
                "method": method.numerics_on.get(model.name, method.numerics),
                "model": model.numerics,
                "loop": self.declarations.loop_numerics,
                **method.numerics_of(parameters),
            },
            splits=splits,
            start=start,
            threads=resources.cpus_per_worker,
            world_size=world_size,
            sync_batch_norm=resources.sync_batch_norm and world_size > 1,
            is_grouped=is_confirmed_together and epochs > 0 and not held_share,
            # What trains nothing runs in fp32 whatever the recipe: it stays the same trial.
            precision=task.precision if method.trains else "fp32",
            backend=self.backend if method.has_kernels else "eager",
            recipe=canonical_recipe(task.recipe, task.batch_size) if method.trains else PLAIN,
            learns_bits=learns_bits,
            allocation=allocation,
            held_share=held_share,
        )

    def fault(self, arm: Arm, parameters: Parameters) -> str | None:
        """Why a configuration of an arm cannot be trained, in a sentence; None if it can.

        Its values are right alone; they, the bits, the model and the task may not fit together.
        """
        method = self.method(arm)
        resolved = resolve(method.parameters, {**arm.parameters, **parameters})
        measured = self.measured_bits(arm, resolved)
        groups = [measured] if method.serves == "all" else [(one,) for one in measured]
        try:
            method.check(resolved, measured)
            method.check_data(resolved, self.declarations.data_set(self.sweep.task.data))
            for name, value in method.needs_start_when.items():
                if resolved.get(name) == value and self.sweep.task.start is None:
                    raise ValueError(f"{name} = {value} needs a trained network: add task.start")
            for group in groups:
                for one in group:
                    method.layer_bits(self.layers(), one, resolved, group)
        except ValueError as error:
            return f"{error} (method {method.name})"
        return None

    def cost(
        self, arm: Arm, parameters: Parameters, bits: Bits, convention: Convention
    ) -> tuple[float, int]:
        """BitOps and size in bits of an arm's network at one width, before it is trained."""
        method = self.method(arm)
        layers = self.layers()
        resolved = resolve(method.parameters, {**arm.parameters, **parameters})
        widths = self.measured_bits(arm, resolved)
        layer_bits = method.layer_bits(layers, bits, resolved, widths)
        return bitops(layers, layer_bits, convention), size_bits(layers, layer_bits, convention)

    def cost_at(
        self, arm: Arm, parameters: Parameters, allocation: Allocation, convention: Convention
    ) -> tuple[float, int]:
        """BitOps and size in bits of an arm's network at an allocation that it learned."""
        method, layers = self.method(arm), self.layers()
        resolved = resolve(method.parameters, {**arm.parameters, **parameters})
        widths = self.measured_bits(arm, resolved)
        bits = iter(by_layer(allocation, sum(one.place == "body" for one in layers)))
        own = [next(bits) if one.place == "body" else widths[0] for one in layers]
        layer_bits = [
            method.layer_bits(layers, one, resolved, widths)[index]
            for index, one in enumerate(own)
        ]
        return bitops(layers, layer_bits, convention), size_bits(layers, layer_bits, convention)


def _settings(arm: Arm) -> list[Parameters]:
    """The arm's parameters at the ends of each dimension, the others at their first one."""
    first = {**arm.parameters, **{name: one.extremes[0] for name, one in arm.space.items()}}
    ends = [(name, value) for name, one in arm.space.items() for value in one.extremes]
    return [first, *({**first, name: value} for name, value in ends)]


@cache
def file_sha256(path: str) -> str:
    """SHA-256 (hex) of a file, read once; raise InputError that names it if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def studies(
    objectives: Sequence[Objective], measured: Sequence[Bits]
) -> dict[str, tuple[Bits, ...]]:
    """The studies of an arm by label, each with the bits its trials have to measure.

    Objectives that are costs need no trials. Either every objective is taken at "each" or none.
    """
    if objectives[0].at == "each":
        return {one.label: (one,) for one in measured}
    trained = [one.at for one in objectives if one.metric not in COST_METRICS]
    if any(isinstance(at, str) for at in trained):
        return {"all": tuple(measured)}
    lists = [at for at in trained if not isinstance(at, str)]
    at = lists[0] if len(lists) == 1 else tuple(sorted({one for each in lists for one in each}))
    return {"+".join(one.label for one in at): at}


def bits_of(
    at: tuple[Bits, ...] | str | None, *, study: Sequence[Bits], measured: Sequence[Bits]
) -> tuple[Bits, ...]:
    """The bits of an objective or a constraint inside a study; None: those of the study."""
    if at == "all":
        return tuple(measured)
    if at is None or isinstance(at, str):
        return tuple(study)
    return at


def configuration_digest(parameters: Parameters) -> str:
    """What names a configuration inside its study."""
    return digest(dict(parameters))
