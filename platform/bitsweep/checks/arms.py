"""What an arm may not say of its method, its parameters and its bits."""

from bitsweep.checks.problem import KeyPath, Problem, must_be_known, resolved
from bitsweep.checks.start import never_holds
from bitsweep.declaration import Declarations, MethodDeclaration
from bitsweep.errors import nearest
from bitsweep.plan import Plan
from bitsweep.space import Choice, Parameters, Range, Value
from bitsweep.sweep import Arm, Sampler, Sweep


def check_arm_names(sweep: Sweep, declarations: Declarations) -> None:
    """Each arm has a name of its own and a method that exists."""
    names: list[str] = []
    for index, arm in enumerate(sweep.arms):
        must_be_known(declarations.method, arm.method, ("arms", index, "method"))
        if arm.name in names:
            message = f"two arms are named {arm.name!r}; give each arm a name of its own"
            raise Problem(("arms", index, "name"), message)
        names.append(arm.name)


def check_methods(sweep: Sweep, declarations: Declarations) -> None:
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


def check_parameters(sweep: Sweep, declarations: Declarations) -> None:
    """Fixed and searched parameters exist, may have these values, and can be drawn."""
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        given = resolved(method, arm.parameters, ("arms", index, "parameters"))
        _check_effects(arm, method, given, ("arms", index, "parameters"))
        for name, dimension in arm.space.items():
            path = ("arms", index, "space", name)
            if name in arm.parameters:
                raise Problem(path, "is searched here and fixed in parameters: keep one")
            for value in dimension.extremes:
                resolved(method, {name: value}, ("arms", index, "space"))
            _check_when(arm, method, name=name, path=path)
            _check_dimension(sweep.search.sampler, arm, name=name, path=path)


def _check_effects(arm: Arm, method: MethodDeclaration, given: Parameters, path: KeyPath) -> None:
    """Each fixed parameter has an effect, at least at some of the values that are searched."""
    conditions = {one.name: one.when for one in method.parameters}

    def missing(name: str) -> tuple[str, tuple[Value, ...]] | None:
        """A condition that never holds: the other parameter and what it would have to be."""
        for other, wanted in conditions[name].items():
            if other in arm.space:
                continue
            if (further := missing(other)) is not None:
                return further
            if other in given and given[other] not in wanted:
                return other, wanted
        return None

    for name in arm.parameters:
        if (found := missing(name)) is not None:
            other, wanted = found
            needed = " or ".join(repr(one) for one in wanted)
            message = f"has no effect: it needs {other} = {needed}, which is {given[other]!r} here"
            raise Problem((*path, name), f"{message}; leave it out (method {method.name})")


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
            resolved(method, {other: value}, (*path, "when"))
    if (never := never_holds(arm, arm.space[name].when)) is not None:
        other, value = never
        message = f"this arm never has {other} = {value}: the condition could not hold"
        raise Problem((*path, "when", other), message)


def _position(arm: Arm, name: str) -> int:
    return list(arm.space).index(name) if name in arm.space else -1


def check_bits(sweep: Sweep, declarations: Declarations) -> None:
    """Each method can do its arm's bits or the task's, and has the trained network it needs."""
    plan = Plan(sweep=sweep, declarations=declarations)
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        path = ("arms", index, "method")
        if method.needs_start and sweep.task.start is None and sweep.task.weights is None:
            raise Problem(path, f"{method.name} needs a trained network: add task.start")
        if method.weight_bits == (32,) or plan.has_learned_bits(arm):
            if arm.bits:
                message = f"{method.name} runs at no given bits in this arm: leave bits out"
                raise Problem(("arms", index, "bits"), message)
            continue
        for one in arm.bits or sweep.task.bits:
            if one.weight not in method.weight_bits:
                can = ", ".join(str(bits) for bits in method.weight_bits)
                message = f"{method.name} (arm {arm.name}) cannot do {one.label}: it does {can}"
                where = ("arms", index, "bits") if arm.bits else ("task", "bits")
                raise Problem(where, f"{message}-bit weights")
