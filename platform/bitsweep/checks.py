"""What a sweep may not say: its meaning against what methods, models and data declare."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from bitsweep.bits import LEARNED, Bits
from bitsweep.errors import InputError, nearest
from bitsweep.plan import Plan, file_sha256
from bitsweep.space import Choice, Parameters, Range, Value, check_point, resolve
from bitsweep.sweep import COST_METRICS, Arm, Median, Sampler, Sweep
from bitsweep.trainer import Declarations, MethodDeclaration, check_trainer

KeyPath = tuple[str | int, ...]
LEARNS_FROM_OTHERS: tuple[Sampler, ...] = ("tpe", "gp", "cmaes")


class Problem(Exception):
    """A mistake at a key, before the file and the line are known."""

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def check_sweep(sweep: Sweep, declarations: Declarations) -> None:
    """Raise Problem for the first thing that cannot be run or would not be honest."""
    for check in _CHECKS:
        check(sweep, declarations)


def _check_names(sweep: Sweep, declarations: Declarations) -> None:
    task = sweep.task
    _known(check_trainer, task.trainer, ("task", "trainer"))
    _known(declarations.data_set, task.data, ("task", "data"))
    _known(declarations.model, task.model, ("task", "model"))
    if task.start is not None:
        _known(declarations.method, task.start.method, ("task", "start", "method"))
        method = declarations.method(task.start.method)
        if method.needs_start:
            message = f"{method.name} needs a trained network itself; expected one that trains"
            raise Problem(("task", "start", "method"), message)
        _resolved(method, task.start.parameters, ("task", "start", "parameters"))
    names: list[str] = []
    for index, arm in enumerate(sweep.arms):
        _known(declarations.method, arm.method, ("arms", index, "method"))
        if arm.name in names:
            message = f"two arms are named {arm.name!r}; give each arm a name of its own"
            raise Problem(("arms", index, "name"), message)
        names.append(arm.name)


def _known(look_up: Callable[[str], object], name: str, path: KeyPath) -> None:
    try:
        look_up(name)
    except InputError as error:
        raise Problem(path, str(error)) from error


def _check_task(sweep: Sweep, declarations: Declarations) -> None:
    """Data, model, trainer and weights fit each other."""
    task = sweep.task
    data, model = declarations.data_set(task.data), declarations.model(task.model)
    if model.data_kind != data.kind:
        message = f"{model.name} is a network for {model.data_kind}; {data.name} has {data.kind}"
        fitting = sorted(n for n, m in declarations.models.items() if m.data_kind == data.kind)
        raise Problem(("task", "model"), f"{message}: choose one of {', '.join(fitting)}")
    trainer = declarations.trainer(task.trainer)
    if trainer is not None and data.kind not in trainer.data_kinds:
        message = f"the trainer {trainer.name} takes {', '.join(trainer.data_kinds)}, and "
        named = [n for n, one in declarations.trainers.items() if data.kind in one.data_kinds]
        message += f"{data.name} has {data.kind}: add trainer = {named[0]!r}" if named else ""
        raise Problem(("task", "data"), message)
    if task.weights is not None:
        _known(file_sha256, task.weights, ("task", "weights"))


def _resolved(
    method: MethodDeclaration, given: Mapping[str, Value], path: KeyPath
) -> dict[str, Value]:
    names = [one.name for one in method.parameters]
    for name, value in given.items():
        if name not in names:
            message = f"{method.name} has no such parameter{nearest(name, names)}"
            raise Problem((*path, name), f"{message}; known: {', '.join(names)}")
        try:
            next(one for one in method.parameters if one.name == name).check(value)
        except ValueError as error:
            raise Problem((*path, name), f"{error} (method {method.name})") from error
    return resolve(method.parameters, given)


def _check_parameters(sweep: Sweep, declarations: Declarations) -> None:
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        _resolved(method, arm.parameters, ("arms", index, "parameters"))
        for name, dimension in arm.space.items():
            path = ("arms", index, "space", name)
            if name in arm.parameters:
                raise Problem(path, "is searched here and fixed in parameters: keep one")
            for value in dimension.extremes:
                _resolved(method, {name: value}, ("arms", index, "space"))
            _check_when(arm, method, name=name, path=path)
            _check_dimension(sweep.search.sampler, arm, name=name, path=path)


def _check_dimension(sampler: Sampler, arm: Arm, *, name: str, path: KeyPath) -> None:
    """Refuse what a sampler cannot draw."""
    dimension = arm.space[name]
    if sampler == "grid" and isinstance(dimension, Range):
        raise Problem(path, "a grid needs { choice = [...] }, got a range")
    if sampler != "cmaes":
        return
    if isinstance(dimension, Choice):
        raise Problem(path, "cmaes searches numbers, got { choice = [...] }; take tpe or gp")
    if set(dimension.when) & set(arm.space):
        raise Problem((*path, "when"), "cmaes cannot search a condition; take tpe")


def _check_when(arm: Arm, method: MethodDeclaration, *, name: str, path: KeyPath) -> None:
    for other, wanted in arm.space[name].when.items():
        known = [one for one in (*arm.space, *arm.parameters) if one != name]
        if other not in known:
            message = f"no other parameter {other!r} of this arm{nearest(other, known)}"
            raise Problem((*path, "when", other), message)
        if list(arm.space).index(name) < _position(arm, other):
            raise Problem((*path, "when", other), f"put {other!r} before {name!r}")
        for value in wanted:
            _resolved(method, {other: value}, (*path, "when"))


def _position(arm: Arm, name: str) -> int:
    return list(arm.space).index(name) if name in arm.space else -1


def _check_recipe(sweep: Sweep, declarations: Declarations) -> None:
    task, recipe = sweep.task, sweep.task.recipe
    try:
        recipe.micro_batches(task.batch_size)
    except ValueError as error:
        raise Problem(("task", "micro_batch_size"), str(error)) from error
    trainings = [task.epochs, *([task.start.epochs] if task.start else [])]
    if recipe.warmup_epochs >= min(trainings):
        message = f"expected fewer than the {min(trainings)} epochs of the shortest training, got"
        raise Problem(("task", "warmup_epochs"), f"{message} {recipe.warmup_epochs}")
    trainer = declarations.trainer(task.trainer)
    if recipe.label_smoothing and trainer is not None and trainer.learning != "classification":
        message = f"expected 0: {task.trainer} learns no classes whose labels could be smoothed"
        raise Problem(("task", "label_smoothing"), message)
    names = [arm.method for arm in sweep.arms] + ([task.start.method] if task.start else [])
    for name in names:
        workers = sweep.resources.workers_per_trial
        refused = declarations.method(name).refused(task.precision, recipe, workers=workers)
        if refused is not None:
            option, why = refused
            table = "resources" if option == "workers_per_trial" else "task"
            raise Problem((table, option), why)


def _check_backend(sweep: Sweep, declarations: Declarations) -> None:
    if sweep.task.backend == "compiled" and (reason := declarations.missing_compiler()):
        raise Problem(("task", "backend"), f"{reason}; or take eager, or auto")


def _check_methods(sweep: Sweep, declarations: Declarations) -> None:
    """Each arm's method can do the kinds of layers, their inputs and what is learned."""
    model = declarations.model(sweep.task.model)
    data = declarations.data_set(sweep.task.data)
    layers = model.layers(data.shape, data.classes)
    kinds = {layer.kind for layer in layers}
    signed = [one.name for one in layers if one.place == "body" and one.has_signed_input]
    trainer = declarations.trainer(sweep.task.trainer)
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        path = ("arms", index, "method")
        if missing := kinds - set(method.layer_kinds):
            kinds_text = ", ".join(sorted(missing))
            raise Problem(
                path, f"{method.name} cannot do {kinds_text} layers, as {model.name} has"
            )
        if signed and not method.takes_signed_inputs:
            message = f"{method.name} clips inputs at 0, and those of {len(signed)} layers of "
            raise Problem(path, f"{message}{model.name} have both signs ({signed[0]}, ...)")
        if trainer is not None and trainer.learning not in method.learning:
            message = f"{method.name} cannot do {trainer.learning}: it learns from classes"
            raise Problem(path, message)


def _check_bits(sweep: Sweep, declarations: Declarations) -> None:
    plan = Plan(sweep=sweep, declarations=declarations)
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        path = ("arms", index, "method")
        if method.needs_start and sweep.task.start is None and sweep.task.weights is None:
            raise Problem(path, f"{method.name} needs a trained network: add task.start")
        if method.weight_bits == (32,) or plan.has_learned_bits(arm):
            continue
        for one in sweep.task.bits:
            if one.weight not in method.weight_bits:
                can = ", ".join(str(bits) for bits in method.weight_bits)
                message = f"{method.name} (arm {arm.name}) cannot do {one.label}: it does {can}"
                raise Problem(("task", "bits"), f"{message}-bit weights")


def _check_combinations(sweep: Sweep, declarations: Declarations) -> None:
    plan = Plan(sweep=sweep, declarations=declarations)
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        for path, given in _corners(arm, index):
            parameters = resolve(method.parameters, given)
            if plan.measured_bits(arm, parameters) != plan.measured_bits(arm, arm.parameters):
                message = "cannot be searched: it changes the bits that are measured; "
                raise Problem(path, f"{message}give each value an arm of its own")
            try:
                _check_together(plan, method, parameters, plan.measured_bits(arm, parameters))
            except ValueError as error:
                raise Problem(path, f"{error} (method {method.name})") from error


def _check_together(
    plan: Plan, method: MethodDeclaration, parameters: Parameters, measured: tuple[Bits, ...]
) -> None:
    """ValueError for parameters that do not fit each other, the bits, the model or the task."""
    method.check(parameters, measured)
    for name, value in method.needs_start_when.items():
        if parameters.get(name) == value and plan.sweep.task.start is None:
            raise ValueError(f"{name} = {value} needs a trained network: add task.start")
    groups = [measured] if method.serves == "all" else [(one,) for one in measured]
    for group in groups:
        for one in group:
            method.layer_bits(plan.layers(), one, parameters, group)


def _corners(arm: Arm, index: int) -> Iterator[tuple[KeyPath, dict[str, Value]]]:
    """The fixed parameters, then each end of each dimension beside them."""
    yield ("arms", index, "method"), dict(arm.parameters)
    for name, dimension in arm.space.items():
        for value in dimension.extremes:
            yield ("arms", index, "space", name), {**arm.parameters, name: value}


def _check_seeds(sweep: Sweep, declarations: Declarations) -> None:
    if sweep.confirm is None:
        return
    if overlap := sorted(set(sweep.confirm.seeds) & set(sweep.search.seeds)):
        shown = ", ".join(str(seed) for seed in overlap)
        message = f"seeds {shown} are also in search.seeds: a lucky search seed would enter the"
        raise Problem(("confirm", "seeds"), f"{message} reported mean; choose others")


def _check_search(sweep: Sweep, declarations: Declarations) -> None:
    search, path = sweep.search, ("search",)
    if search.tpe.grouped and not search.tpe.multivariate:
        raise Problem((*path, "sampler", "tpe", "grouped"), "needs multivariate = true")
    scheduler = search.scheduler
    if scheduler is not None and scheduler.grace_epochs >= sweep.task.epochs:
        message = f"expected fewer than task.epochs = {sweep.task.epochs}, else nothing is stopped"
        kind = "median" if isinstance(scheduler, Median) else "asha"
        raise Problem((*path, "scheduler", kind, "grace_epochs"), message)
    if search.warm_start and search.sampler not in LEARNS_FROM_OTHERS:
        message = f"{search.sampler} cannot learn from other sweeps' results"
        known = ", ".join(LEARNS_FROM_OTHERS)
        raise Problem((*path, "warm_start"), f"{message}; expected sampler {known}")
    if sweep.name in search.warm_start:
        message = "a sweep goes on from its own results by itself: name others"
        raise Problem((*path, "warm_start"), message)


def _check_first(sweep: Sweep, declarations: Declarations) -> None:
    for index, arm in enumerate(sweep.arms):
        path = ("arms", index, "first")
        if len(arm.first) > sweep.search.configurations_per_arm:
            message = f"{len(arm.first)} points, but search.configurations_per_arm is "
            raise Problem(path, f"{message}{sweep.search.configurations_per_arm}")
        for number, point in enumerate(arm.first):
            if not arm.space:
                raise Problem(path, "the arm has no space: put the values into parameters")
            try:
                check_point(arm.space, arm.parameters, point)
            except ValueError as error:
                raise Problem((*path, number), str(error)) from error


def _check_objectives(sweep: Sweep, declarations: Declarations) -> None:
    objectives = sweep.objectives
    if all(one.metric in COST_METRICS for one in objectives):
        measured = ", ".join(one.name for one in declarations.metrics(sweep.task.trainer))
        message = f"a cost alone needs no training: add an objective that is measured: {measured}"
        raise Problem(("objectives", 0, "metric"), message)
    for index, objective in enumerate(objectives):
        path = ("objectives", index)
        if objective in objectives[:index]:
            raise Problem(path, "this objective stands here twice")
        if objective.metric in COST_METRICS and objective.goal == "maximize":
            raise Problem((*path, "goal"), f"expected 'minimize' for {objective.metric}")
        if (objective.at == "each") != (objectives[0].at == "each"):
            message = "one study per width serves every objective: 'each' for all of them or none"
            raise Problem((*path, "at"), message)
    if len(objectives) > 1 and sweep.search.sampler == "cmaes":
        message = f"cmaes takes one objective, got {len(objectives)}; take tpe, gp or nsga2"
        raise Problem(("search", "sampler"), message)
    _check_objective_bits(sweep, declarations)


def _check_objective_bits(sweep: Sweep, declarations: Declarations) -> None:
    plan = Plan(sweep=sweep, declarations=declarations)
    places: list[tuple[str, int, tuple[Bits, ...] | str | None]]
    places = [("objectives", index, one.at) for index, one in enumerate(sweep.objectives)]
    places += [("constraints", index, one.at) for index, one in enumerate(sweep.constraints)]
    for table, index, at in places:
        if at is None or isinstance(at, str):
            continue
        for arm in sweep.arms:
            if arm.space and not plan.has_learned_bits(arm):
                _can_measure(plan, arm, at, (table, index, "at"))
    if sweep.constraints and not any(arm.space for arm in sweep.arms):
        raise Problem(("constraints",), "nothing is searched, so that nothing can be refused")


def _can_measure(plan: Plan, arm: Arm, at: Sequence[Bits], path: KeyPath) -> None:
    measured = plan.measured_bits(arm, arm.parameters)
    for bits in at:
        if bits not in measured:
            can = ", ".join(one.label for one in measured)
            message = f"arm {arm.name!r} can never measure {bits.label}: it is measured at {can}"
            raise Problem(path, message)


def _can_compare(plan: Plan, arm: Arm, at: Bits | None, path: KeyPath) -> None:
    """Learned bits are compared with learned ones, or with full precision."""
    has_learned = plan.has_learned_bits(arm)
    if has_learned and at is not None:
        message = f"the bits of arm {arm.name!r} are a result: expected at = {LEARNED!r}"
        raise Problem(path, f"{message}, got {at.label!r}")
    if not has_learned and at is None:
        message = f"arm {arm.name!r} neither learns its bits nor takes learned ones"
        raise Problem(path, f"{message}; expected bits such as 'w4a4'")
    if at is not None:
        _can_measure(plan, arm, (at,), path)


def _check_sources(sweep: Sweep, declarations: Declarations) -> None:
    plan = Plan(sweep=sweep, declarations=declarations)
    names = [arm.name for arm in sweep.arms]
    for index, arm in enumerate(sweep.arms):
        if arm.source is None:
            continue
        path: KeyPath = ("arms", index, "from")
        if arm.source.arm not in names:
            message = f"no arm is named {arm.source.arm!r}{nearest(arm.source.arm, names)}"
            raise Problem((*path, "arm"), f"{message}; arms: {', '.join(names)}")
        if arm.name in _ancestors(sweep, arm):
            message = f"arm {arm.name!r} would wait for itself: {arm.source.arm!r} takes from it"
            raise Problem((*path, "arm"), message)
        if arm.space:
            message = "is searched here and takes from another arm: give its values in parameters"
            raise Problem(("arms", index, "space"), message)
        if sweep.confirm is not None and sweep.confirm.best_per_arm > 1:
            message = "expected 1 where an arm takes from the best of another"
            raise Problem(("confirm", "best_per_arm"), message)
        parent = sweep.arm(arm.source.arm)
        take = _check_allocation if arm.source.take == "allocation" else _check_checkpoint
        take(plan, arm, parent, path)


def _ancestors(sweep: Sweep, arm: Arm) -> list[str]:
    """The arms that an arm takes from, nearest first; ends where one comes twice."""
    found: list[str] = []
    known = {one.name: one for one in sweep.arms}
    while arm.source is not None and arm.source.arm not in found and arm.source.arm in known:
        found.append(arm.source.arm)
        arm = known[arm.source.arm]
    return found


def _check_allocation(plan: Plan, arm: Arm, parent: Arm, path: KeyPath) -> None:
    method = plan.method(arm)
    if not plan.has_learned_bits(parent):
        can = ", ".join(sorted(_learning(plan.declarations))) or "none"
        message = f"arm {parent.name!r} ({parent.method}) learns no bits that could be taken"
        raise Problem((*path, "take"), f"{message}; methods that can: {can}")
    if plan.learns_bits(arm):
        message = f"arm {arm.name!r} learns its own bits: it cannot be given an allocation too"
        raise Problem((*path, "take"), message)
    if not method.takes_allocations:
        known = plan.declarations.methods.values()
        can = ", ".join(sorted(one.name for one in known if one.takes_allocations))
        message = f"{method.name} cannot run given bits per layer; methods that can: {can}"
        raise Problem((*path, "take"), message)


def _learning(declarations: Declarations) -> list[str]:
    """The methods that learn bits, by default or by one of their choices."""
    found = []
    for method in declarations.methods.values():
        choices = [{one.name: value} for one in method.parameters for value in one.choices]
        if any(method.learns_bits(given) for given in ({}, *choices)):
            found.append(method.name)
    return found


def _check_checkpoint(plan: Plan, arm: Arm, parent: Arm, path: KeyPath) -> None:
    if arm.source is not None and arm.source.form != "kept":
        raise Problem((*path, "as"), "only an allocation has other forms: leave it out")
    if not plan.method(parent).trains:
        message = f"{parent.method} (arm {parent.name!r}) trains nothing: it has no checkpoint"
        raise Problem((*path, "take"), message)
    theirs = plan.measured_bits(parent, parent.parameters)
    own = plan.measured_bits(arm, arm.parameters)
    is_one = plan.method(parent).serves == "all" or len(theirs) == 1
    if not is_one and (plan.method(arm).serves == "all" or not set(own) <= set(theirs)):
        message = f"arm {parent.name!r} trains a network per width: which one is not told; "
        raise Problem((*path, "arm"), f"{message}expected an arm with one, or with the same bits")


def _check_prices(sweep: Sweep, declarations: Declarations) -> None:
    """Learned bits cost what comes out: no constraint can refuse them before the training.

    An objective of accuracy alone would set a price of bits to what costs most bits; with a cost
    among the objectives both are weighed, at the allocations that were learned.
    """
    plan = Plan(sweep=sweep, declarations=declarations)
    are_weighed = any(one.metric in COST_METRICS for one in sweep.objectives)
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        if arm.space and sweep.constraints and plan.has_learned_bits(arm):
            message = (
                "a constraint refuses proposals untrained, and what learned bits cost is known "
            )
            message += (
                "only after the training: make the cost an objective instead, or give the arm "
            )
            message += "no space"
            raise Problem(("arms", index, "space"), message)
        for name in arm.space:
            if name in method.bit_prices and not are_weighed:
                message = "cannot be searched: it sets what bits cost, and accuracy alone would "
                message += "choose the most; add a cost to the objectives, or give each value an "
                message += "arm of its own"
                raise Problem(("arms", index, "space", name), f"{message} (method {method.name})")


def _check_comparisons(sweep: Sweep, declarations: Declarations) -> None:
    plan = Plan(sweep=sweep, declarations=declarations)
    names = [arm.name for arm in sweep.arms]
    for index, comparison in enumerate(sweep.comparisons):
        for key, name in (("arm", comparison.arm), ("against", comparison.against)):
            path = ("comparisons", index, key)
            if name not in names:
                message = f"no arm is named {name!r}{nearest(name, names)}"
                raise Problem(path, f"{message}; arms: {', '.join(names)}")
            arm = sweep.arm(name)
            if plan.method(arm).weight_bits != (32,):
                _can_compare(plan, arm, comparison.at, ("comparisons", index, "at"))
        if comparison.arm == comparison.against:
            raise Problem(("comparisons", index, "against"), "an arm against itself")
        if sweep.confirm is None:
            raise Problem(("comparisons", index), "a comparison needs [confirm] with seeds")


def _check_resources(sweep: Sweep, declarations: Declarations) -> None:
    gpus = sweep.resources.gpus_per_worker
    if gpus > 1 and not gpus.is_integer():
        message = f"expected a fraction up to 1 or a whole number, got {gpus:g}"
        raise Problem(("resources", "gpus_per_worker"), message)
    for name in sweep.resources.custom_per_worker:
        if name.upper() in {"CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY"}:
            message = "this one has a key of its own: cpus_, gpus_ or memory_gib_per_worker"
            raise Problem(("resources", "custom_per_worker", name), message)
    workers, batch = sweep.resources.workers_per_trial, sweep.task.batch_size
    if batch % workers:
        message = f"a batch of {batch} (task.batch_size) cannot be shared equally by {workers}"
        raise Problem(("resources", "workers_per_trial"), message)
    plan = Plan(sweep=sweep, declarations=declarations)
    for arm in sweep.arms:
        if workers > 1 and plan.has_learned_bits(arm):
            message = f"arm {arm.name!r} has learned bits: it cannot be trained over {workers}"
            raise Problem(("resources", "workers_per_trial"), message)


_CHECKS = (
    _check_names,
    _check_task,
    _check_methods,
    _check_parameters,
    _check_recipe,
    _check_backend,
    _check_bits,
    _check_combinations,
    _check_sources,
    _check_prices,
    _check_seeds,
    _check_search,
    _check_first,
    _check_objectives,
    _check_comparisons,
    _check_resources,
)
