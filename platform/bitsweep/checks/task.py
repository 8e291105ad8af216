"""What the tables task and resources may not say."""

from bitsweep.checks.problem import Problem, must_be_known
from bitsweep.declaration import DataDeclaration, Declarations, ModelDeclaration
from bitsweep.plan import Plan, file_sha256
from bitsweep.sweep import SMALLEST_SHARE, Sweep
from bitsweep.trainer import check_group_trainer, check_trainer

_OF_RESOURCES = ("workers_per_trial", "seeds_together")


def check_task_names(sweep: Sweep, declarations: Declarations) -> None:
    """The trainer, the data and the model exist."""
    task = sweep.task
    must_be_known(check_trainer, task.trainer, ("task", "trainer"))
    must_be_known(declarations.data_set, task.data, ("task", "data"))
    must_be_known(declarations.model, task.model, ("task", "model"))


def check_task(sweep: Sweep, declarations: Declarations) -> None:
    """Data, model, trainer and weights fit each other."""
    task = sweep.task
    data, model = declarations.data_set(task.data), declarations.model(task.model)
    if model.data_kind != data.kind:
        message = f"{model.name} is a network for {model.data_kind}; {data.name} has {data.kind}"
        fitting = sorted(n for n, m in declarations.models.items() if m.data_kind == data.kind)
        raise Problem(("task", "model"), f"{message}: choose one of {', '.join(fitting)}")
    if reason := too_small(model, data):
        raise Problem(("task", "data"), reason)
    trainer = declarations.trainer(task.trainer)
    if trainer is not None and data.kind not in trainer.data_kinds:
        message = f"the trainer {trainer.name} takes {', '.join(trainer.data_kinds)}, and "
        named = [n for n, one in declarations.trainers.items() if data.kind in one.data_kinds]
        message += f"{data.name} has {data.kind}: add trainer = {named[0]!r}" if named else ""
        raise Problem(("task", "data"), message)
    if task.weights is not None:
        path = ("task", "weights")
        must_be_known(file_sha256, task.weights, path)
        if trainer is not None:  # one that declares nothing may read files of its own
            check = declarations.check_weights
            must_be_known(lambda name: check(name, model.name, data), task.weights, path)


def too_small(model: ModelDeclaration, data: DataDeclaration) -> str | None:
    """What is wrong with data whose samples are too small for a model; None if nothing is."""
    sides = data.shape if len(data.shape) == 1 else data.shape[1:]
    if min(sides) >= model.least_side:
        return None
    words = {"images": "pixels a side", "series": "points", "vectors": "numbers"}
    needs = f"model {model.name} needs at least {model.least_side} {words[data.kind]}"
    return f"{needs}, {data.name} has {'x'.join(map(str, sides))}"


def check_recipe(sweep: Sweep, declarations: Declarations) -> None:
    """The recipe fits the trainings, and no method of the sweep refuses it."""
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
        refused = declarations.method(name).refused(
            task.precision,
            recipe,
            workers=sweep.resources.workers_per_trial,
            seeds_together=sweep.resources.seeds_together,
        )
        if refused is not None:
            option, why = refused
            table = "resources" if option in _OF_RESOURCES else "task"
            raise Problem((table, option), why)


def check_backend(sweep: Sweep, declarations: Declarations) -> None:
    """Compiled kernels have a compiler here."""
    if sweep.task.backend == "compiled" and (reason := declarations.missing_compiler()):
        raise Problem(("task", "backend"), f"{reason}; or take eager, or auto")


def check_seeds_together(sweep: Sweep, declarations: Declarations) -> None:
    """There are seeds to train as one network, and a trainer and kernels that can."""
    if sweep.resources.seeds_together == 1:
        return
    path = ("resources", "seeds_together")
    if sweep.confirm is None:
        message = "only seeds of the confirm stage are trained together: add [confirm] with seeds"
        raise Problem(path, f"{message}, or leave it out")
    if sweep.task.backend == "compiled":
        message = "compiled kernels quantize one network at a time: expected task.backend eager"
        raise Problem(path, f"{message}, or auto, which then is eager")
    must_be_known(check_group_trainer, sweep.task.trainer, path)


def check_resources(sweep: Sweep, declarations: Declarations) -> None:
    """What a worker asks for can be given, and the batch can be shared."""
    gpus = sweep.resources.gpus_per_worker
    if 0 < gpus < SMALLEST_SHARE:
        message = f"expected 0, or at least {SMALLEST_SHARE:g}, got {gpus:g}"
        raise Problem(("resources", "gpus_per_worker"), message)
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
