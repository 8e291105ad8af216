"""The trainer for images, series and vectors: from a trial to evaluations.

Puts together data, model, method and start; the loop itself stands in `loop`.
"""

import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import file_digest
from pathlib import Path
from socket import gethostname
from time import perf_counter

import torch
from torch import nn

from bitsweep.errors import InputError
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Round, Workspace
from bitsweep.trial import UNKNOWN_ALLOCATION, Trial
from bitsweep_trainers import grouped, loop
from bitsweep_trainers.checkpoint import fitting, read_checkpoint
from bitsweep_trainers.data.augment import (
    AUGMENTATIONS,
    IMAGE_FOLDER,
    NO_AUGMENTATION,
    Augmentation,
    normalise,
)
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays, load_of
from bitsweep_trainers.declared import missing_compiler
from bitsweep_trainers.evaluate import measure_all
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.pretrained import load_weights
from bitsweep_trainers.parallel import joined
from bitsweep_trainers.policy.split import hold_out
from bitsweep_trainers.sync_norm import synchronise

CALIBRATION_IMAGES = 1024
PRECISIONS = ("fp32", "bf16")
BACKENDS = ("eager", "compiled")


def train(trial: Trial, workspace: Workspace) -> Generator[Evaluation, None, None]:
    """Train a network and yield an evaluation per epoch; one at epoch 0 if nothing is trained.

    Raise InputError for what this trainer cannot honour, Diverged when a loss is not finite.
    """
    check(trial)
    device = device_of(workspace)
    make_repeatable(trial, device)
    data = on_device(divided(load_of(trial), trial), device)
    network = untrained(trial, workspace, device)
    began = perf_counter()
    calibrate(network, trial, data)
    prepare = partial(
        loop.prepare,
        network,
        method_of(trial.method),
        trial=trial,
        data=data,
        augmentation=augmentation_of(trial),
    )
    if trial.epochs:
        with joined(workspace, device) as group:
            if trial.sync_batch_norm:
                synchronise(network, group.size)
            yield from loop.run(prepare(group=group), workspace)
        return
    training = prepare()
    if not workspace.state_path.exists():
        yield evaluate_once(training, workspace, seconds=perf_counter() - began)
        loop.save_state(training, workspace.state_path, epoch=0, seconds=0.0)


def train_group(
    trials: Sequence[Trial], workspaces: Sequence[Workspace]
) -> Generator[Round, None, None]:
    """Train trials that are equal but for seed and start as one network; yield rounds.

    A place of a round is its trial's evaluation, the Diverged that ended it, or None. Raise
    InputError for what this trainer cannot honour.
    """
    check_group(trials)
    device = device_of(workspaces[0])
    make_repeatable(trials[0], device)
    data = on_device(load_of(trials[0]), device)
    trainings = []
    for trial, workspace in zip(trials, workspaces, strict=True):
        network = untrained(trial, workspace, device)
        calibrate(network, trial, data)
        trainings.append(
            loop.prepare(
                network,
                method_of(trial.method),
                trial=trial,
                data=data,
                augmentation=augmentation_of(trial),
            )
        )
    yield from grouped.run(trainings, workspaces)


def divided(data: Arrays, trial: Trial) -> Arrays:
    """The data with the training images held out that the trial, or what starts from it, keeps.

    Raise InputError where these are too few for the method.
    """
    declared = DECLARED_METHODS[trial.method]
    share = trial.held_share or declared.held_share(trial.parameters)
    if not share:
        return data
    parts = hold_out(data, share, loop.stream(trial.seed, "divide"))
    if (count := len(parts.held_labels)) < declared.least_held:
        raise InputError(
            f"{trial.method} holds {share:g} of {len(data.train_labels)} training images out, "
            f"class by class: {count}, and at least {declared.least_held} are needed: raise the "
            "share, or take more images"
        )
    return parts


def untrained(trial: Trial, workspace: Workspace, device: torch.device) -> nn.Module:
    """The converted network on the device, before it is calibrated."""
    network = start_network(trial, workspace)
    convert = method_of(trial.method).convert
    network = convert(network, trial, loop.stream(trial.seed, "convert"))
    network.to(device=device, memory_format=memory_format(trial))  # type: ignore[call-overload]
    return network


def calibrate(network: nn.Module, trial: Trial, data: Arrays) -> None:
    """Set ranges and batch norms from the first training images; leaves it in training mode."""
    network.train()
    first_images = data.train_images[:CALIBRATION_IMAGES]
    images = normalise(first_images, data.mean, data.std)
    method_of(trial.method).calibrate(network, trial, images)


def device_of(workspace: Workspace) -> torch.device:
    """The GPU that was set aside, or the CPU. Raise InputError where torch sees none to use."""
    if not workspace.uses_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"resources.gpus_per_worker asks for a GPU, and torch {torch.__version__} sees none "
            f"on {gethostname()}; install a build of torch with CUDA there, or set it to 0"
        )
    return torch.device("cuda")


def augmentation_of(trial: Trial) -> Augmentation:
    """How the training images of a trial are varied; series and vectors are not."""
    if trial.data_path is None:
        return AUGMENTATIONS.get(trial.data, NO_AUGMENTATION)
    return IMAGE_FOLDER if data_of(trial).kind == "images" else NO_AUGMENTATION


def check(trial: Trial) -> None:
    """Raise InputError for what is asked for and would not be honoured."""
    if trial.precision not in PRECISIONS:
        raise InputError(f"precision must be one of {PRECISIONS}, got {trial.precision!r}")
    if trial.backend not in BACKENDS:
        raise InputError(f"backend must be one of {BACKENDS}, got {trial.backend!r}")
    if trial.backend == "compiled" and (reason := missing_compiler()):
        raise InputError(f"{reason}, or take the backend eager")
    declared = DECLARED_METHODS[trial.method]
    try:
        trial.recipe.micro_batches(trial.batch_size)
    except ValueError as error:
        raise InputError(str(error)) from error
    if refused := declared.refused(trial.precision, trial.recipe, workers=trial.world_size):
        raise InputError(refused[1])
    if trial.world_size > 1 and trial.has_learned_bits:
        raise InputError(
            f"method {trial.method} cannot be trained over several workers with bits "
            "that were learned"
        )
    if declared.needs_start and trial.start is None and trial.weights_path is None:
        raise InputError(f"method {trial.method} needs a start: a trained network to begin from")
    if trial.epochs and not declared.trains:
        raise InputError(f"method {trial.method} trains nothing: it runs 0 epochs")
    if trial.allocation is not None and not declared.takes_allocations:
        raise InputError(f"method {trial.method} cannot run given bits per layer")
    if trial.allocation == UNKNOWN_ALLOCATION:
        raise InputError(f"trial {trial.short_id} has no bits: what it takes them from failed")
    if trial.data_sha256 != data_of(trial).sha256:
        raise InputError(f"the trial was made for another version of the data set {trial.data}")


def check_group(trials: Sequence[Trial]) -> None:
    """Raise InputError for what several trials as one network would not be honoured in."""
    for trial in trials:
        check(trial)
    first = trials[0]
    alike = [replace(one, seed=first.seed, start=first.start) == first for one in trials]
    if not all(alike) or len({one.id for one in trials}) < len(trials):
        raise InputError("trials that train as one network differ in seed and start alone")
    declared = DECLARED_METHODS[first.method]
    refused = declared.refused(
        first.precision,
        first.recipe,
        workers=first.world_size,
        seeds_together=max(2, len(trials)),
    )
    if refused:
        raise InputError(refused[1])
    if not first.epochs:
        raise InputError("trials that train as one network train at least one epoch, got 0")
    if first.held_share:
        raise InputError("trials that hold images out have each its own data: train them alone")
    if first.backend != "eager":
        raise InputError(
            f"seeds are trained together with the backend eager alone, got {first.backend!r}"
        )


def make_repeatable(trial: Trial, device: torch.device) -> None:
    """Set the process to the trial's threads and to deterministic algorithms."""
    torch.set_num_threads(trial.threads)
    is_cuda = device.type == "cuda"
    if is_cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True, warn_only=is_cuda)
    # Filling every new tensor with NaN finds bugs in kernels, and costs a pass over memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def memory_format(trial: Trial) -> torch.memory_format:
    """The layout of the kernels, which that of the features follows.

    Convolutions and pools run up to 1.6 times as fast with channels last on a CPU.
    """
    is_last = trial.recipe.memory_format == "channels_last"
    return torch.channels_last if is_last else torch.contiguous_format


def on_device(data: Arrays, device: torch.device) -> Arrays:
    """The same arrays with all images and labels on the device."""
    return replace(
        data,
        train_images=data.train_images.to(device),
        train_labels=data.train_labels.to(device),
        validation_images=data.validation_images.to(device),
        validation_labels=data.validation_labels.to(device),
        test_images=data.test_images.to(device),
        test_labels=data.test_labels.to(device),
        held_images=data.held_images.to(device),
        held_labels=data.held_labels.to(device),
    )


def start_network(trial: Trial, workspace: Workspace) -> nn.Module:
    """The plain network: drawn from the seed, or with the weights of the trial's start."""
    declared = data_of(trial)
    draws = loop.stream(trial.seed, "model")
    network = build(trial.model, declared.shape, declared.classes, draws)
    if trial.start is None:
        if trial.weights_path is not None:
            begin_with_file(network, trial, Path(trial.weights_path))
        return network
    if workspace.start_checkpoint is None:
        raise InputError(f"trial {trial.short_id} starts from {trial.start}: no checkpoint came")
    path = workspace.start_checkpoint
    remedy = (
        f"`bitsweep run FILE --trial {trial.start[:12]}` trains it again and keeps it as "
        f"{trial.start}.pt beside this file: put that in its place, then `run FILE --retry failed`"
    )
    document = read_checkpoint(path, holds=("trial", "network"), remedy=remedy)
    came = document["trial"]
    # A quantized network keeps the names of the plain one for its latent weights and its norms.
    wanted = network.state_dict().keys()
    if came["model"] != trial.model or not wanted <= document["network"].keys():
        raise InputError(
            f"expected a checkpoint of {trial.model} with its own layers and norms to start from, "
            f"got {came['method']} of {came['model']}"
        )
    with fitting(path, remedy=remedy):
        network.load_state_dict({name: document["network"][name] for name in wanted})
    return network


def begin_with_file(network: nn.Module, trial: Trial, path: Path) -> None:
    """Load pretrained weights; InputError if the file is not the one the trial was made for."""
    try:
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"weights {path}: cannot be read: {error.strerror}") from error
    if found != trial.weights_sha256:
        raise InputError(f"weights {path}: the file has changed since the trial was planned")
    load_weights(network, path, model=trial.model)


def evaluate_once(training: loop.Training, workspace: Workspace, *, seconds: float) -> Evaluation:
    """The one evaluation, at epoch 0, of a network that is not trained."""
    trial = training.trial
    measurements = measure_all(training.network, trial, training.data, is_last=True)
    loop.save_checkpoint(training.network, trial, workspace.final_checkpoint)
    return Evaluation(epoch=0, seconds=seconds, examples=0, measurements=measurements)
