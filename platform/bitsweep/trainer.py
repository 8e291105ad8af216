"""The seam to the science: what a trainer is, and where trainers and declarations are found.

Both are found through entry points; nothing here imports a trainer by name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from bitsweep.declaration import (
    DataDeclaration,
    Declarations,
    MethodDeclaration,
    ModelDeclaration,
    TrainerDeclaration,
    gpus_unknown,
    no_weights_known,
    nothing_missing,
)
from bitsweep.errors import Diverged, InputError
from bitsweep.measurement import Evaluation
from bitsweep.plugins import check_function, load, look_up
from bitsweep.trial import Trial

TRAINERS = "bitsweep.trainers"
GROUP_TRAINERS = "bitsweep.group_trainers"
DECLARATIONS = "bitsweep.declarations"
DATA_TOOLS = "bitsweep.data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A worker's place among the workers of one trial; they meet at "host:port".

    Each gets the same trial and trains on its share of each batch. Rank 0 measures, keeps state
    and yields what counts; the others yield an evaluation without measurements at the same times.
    """

    rank: int
    size: int
    meeting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where one trial keeps its state between processes.

    `folder` exists and is the trial's own: a trainer saves its resumable state there, after the
    yield of an evaluation has returned, and finds it again when it is restarted.
    `start_checkpoint` is the file of the trial it starts from. A trainer leaves its final network
    at `final_checkpoint` before its last evaluation is yielded. `team` is there for a trial over
    several workers; the folder of rank 1 and up is scratch. `uses_gpu`: a GPU was set aside for
    this worker; without, a trainer leaves those of the machine alone.
    """

    folder: Path
    start_checkpoint: Path | None = None
    team: Team | None = None
    uses_gpu: bool = False

    @property
    def state_path(self) -> Path:
        """The resumable state."""
        return self.folder / "state.pt"

    @property
    def final_checkpoint(self) -> Path:
        """The trained network."""
        return self.folder / "final.pt"


@runtime_checkable
class Trainer(Protocol):
    """A generator function: one evaluation per epoch, the first at epoch 1 (or 0 if none trains).

    Closing the generator stops the training. A restarted trial continues from its workspace and
    yields only evaluations after the last one whose yield returned. Raises errors.Diverged when a
    loss is not finite, and anything else when it fails.
    """

    def __call__(self, trial: Trial, workspace: Workspace, /) -> Iterator[Evaluation]: ...


Round = tuple[Evaluation | Diverged | None, ...]


class GroupTrainer(Protocol):
    """Trains trials that are equal but for seed and start as one network.

    A generator function: each item is a round, a tuple with one place per trial, in their order:
    its Evaluation; the errors.Diverged with which it ended (once); None where there is nothing new
    of it. Every trial keeps its own resumable state and final checkpoint in its own workspace
    exactly as a Trainer does, saved after the yield has returned; members that come back with
    different epochs behind them are brought level first (rounds with None for the others). Closing
    stops it. What it raises otherwise ends all.
    """

    def __call__(
        self, trials: Sequence[Trial], workspaces: Sequence[Workspace], /
    ) -> Iterator[Round]: ...


def load_declarations() -> Declarations:
    """Read the declarations of everything installed; raise InputError when a plug-in is broken.

    A module of the group `bitsweep.declarations` has any of METHODS, MODELS, DATA_SETS, TRAINERS
    (tables by name), LOOP_NUMERICS, `data_of_path` (declares a data set named by its path),
    `missing_compiler` (why the backend "compiled" cannot be had here, None if it can),
    `check_weights` (InputError for a file that a model on some data cannot begin with) and
    `num_gpus` (how many GPUs trials could use on this machine).
    """
    methods: dict[str, MethodDeclaration] = {}
    models: dict[str, ModelDeclaration] = {}
    data: dict[str, DataDeclaration] = {}
    trainers: dict[str, TrainerDeclaration] = {}
    loop_numerics = 1
    data_of_path = None
    missing_compiler, check_weights = nothing_missing, no_weights_known
    num_gpus = gpus_unknown
    for entry in sorted(entry_points(group=DECLARATIONS), key=lambda one: one.name):
        module = load(entry)
        methods |= getattr(module, "METHODS", {})
        models |= getattr(module, "MODELS", {})
        data |= getattr(module, "DATA_SETS", {})
        trainers |= getattr(module, "TRAINERS", {})
        loop_numerics = getattr(module, "LOOP_NUMERICS", loop_numerics)
        data_of_path = getattr(module, "data_of_path", data_of_path)
        missing_compiler = getattr(module, "missing_compiler", missing_compiler)
        check_weights = getattr(module, "check_weights", check_weights)
        num_gpus = getattr(module, "num_gpus", num_gpus)
    return Declarations(
        methods=methods,
        models=models,
        data=data,
        loop_numerics=loop_numerics,
        trainers=trainers,
        data_of_path=data_of_path,
        missing_compiler=missing_compiler,
        check_weights=check_weights,
        num_gpus=num_gpus,
    )


class DataTools(Protocol):
    """What a trainer package offers to bring its data sets here (a module with two functions)."""

    def is_present(self, name: str, /) -> bool:
        """Whether the data set can be loaded without fetching."""

    def fetch(self, name: str, progress: Callable[[int, int | None], None], /) -> Path:
        """Fetch, verify and keep a data set; progress(bytes done, bytes in all if known)."""


def load_data_tools() -> DataTools:
    """The tools of the entry point `bitsweep.data`; UnknownName if no trainer package has any."""
    found = {entry.name: entry for entry in entry_points(group=DATA_TOOLS)}
    tools: DataTools = load(look_up("data tool", "image", found))
    return tools


def check_trainer(name: str) -> None:
    """Raise InputError unless it is an entry point or the "module:function" of a trainer."""
    if ":" in name:
        check_function(name, num_arguments=2)
    else:
        look_up("trainer", name, {entry.name: entry for entry in entry_points(group=TRAINERS)})


def check_group_trainer(name: str) -> None:
    """Raise InputError if a trainer cannot train several trials as one network.

    An entry point is not loaded; the module of "module:function" is looked into.
    """
    if ":" in name:
        try:
            load_group_trainer(name)
        except InputError as error:
            message = "several seeds are trained by the function of its module with _group"
            raise InputError(f"{error}; {message} behind its name") from error
    elif name not in (known := {entry.name for entry in entry_points(group=GROUP_TRAINERS)}):
        can = ", ".join(sorted(known)) or "none"
        message = f"the trainer {name!r} trains one seed at a time"
        raise InputError(f"{message}; trainers that can train several: {can}")


def load_group_trainer(name: str) -> GroupTrainer:
    """What trains several trials of a trainer as one network; InputError if there is nothing.

    That of an entry point, or for "module:function" the module's "function_group".
    """
    if ":" in name:
        together = f"{name}_group"
        group_trainer: GroupTrainer = load(
            EntryPoint(name="", value=together, group=GROUP_TRAINERS)
        )
        return group_trainer
    found = {entry.name: entry for entry in entry_points(group=GROUP_TRAINERS)}
    loaded: GroupTrainer = load(look_up("group trainer", name, found))
    return loaded


def load_trainer(name: str) -> Trainer:
    """The trainer of an entry point or of "module:function"; UnknownName if there is none."""
    if ":" in name:
        trainer: Trainer = load(EntryPoint(name="", value=name, group=TRAINERS))
        return trainer
    found = {entry.name: entry for entry in entry_points(group=TRAINERS)}
    loaded: Trainer = load(look_up("trainer", name, found))
    return loaded
