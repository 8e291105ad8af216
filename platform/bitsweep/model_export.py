"""Exporting the network of a trial that the store knows: checkpoint, file, recorded numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitsweep.bits import Bits
from bitsweep.errors import InputError
from bitsweep.execution.base import Folders
from bitsweep.exporter import Exported, ExportForm, SameLayers, SameLogits, load_exporter
from bitsweep.run import folders_of
from bitsweep.store.reader import Reader
from bitsweep.trial import Finished, Trial

# Of the images, those whose logits may differ: by float sums and rounding at an edge.
MOST_APART = 0.01
# The same for answers of another runtime, each of whose layers was found to be right: a code
# that falls to the other side of an edge moves all that comes after.
MOST_ANSWERS_APART = 0.05
NAMED = 3  # operations that a fault names


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelExport:
    """An export beside what the store recorded: size and right answers on validation by bits."""

    trial: Trial
    exported: Exported
    recorded_bits: int | None
    recorded_correct: Mapping[str, int]

    @property
    def faults(self) -> tuple[str, ...]:
        """What does not hold, in words; empty where the file is what was measured."""
        found = []
        payload, sizes = self.exported.payload_bits, {self.exported.claimed_bits}
        if self.recorded_bits is not None:
            sizes.add(self.recorded_bits)
        if payload is not None and sizes != {payload}:
            claimed = " and ".join(map(str, sorted(sizes)))
            found.append(f"the payload has {payload} bits, claimed are {claimed}")
        layers = self.exported.layers
        if layers is not None:
            found.extend(_faults_of_layers(layers))
        judge = _fault_of_logits if layers is None else _fault_of_answers
        found.extend(fault for one in self.exported.widths if (fault := judge(one)))
        return tuple(found)


def _fault_of_logits(one: SameLogits) -> str | None:
    """Of a file that this program runs: its outputs are the trained network's."""
    if one.num_apart <= MOST_APART * one.images:
        return None
    return f"{one.bits}: logits of {one.num_apart} images differ"


def _fault_of_answers(one: SameLogits) -> str | None:
    """Of a graph whose layers were judged one by one, run as a whole."""
    if one.largest_difference is None:
        return f"{one.bits}: NaN or infinity stands against another logit"
    num_apart = 0 if one.num_agreeing is None else one.images - one.num_agreeing
    if num_apart <= MOST_ANSWERS_APART * one.images:
        return None
    return f"{one.bits}: answers on {num_apart} images differ"


def _faults_of_layers(layers: SameLayers) -> list[str]:
    found = []
    if layers.apart:
        named = ", ".join(layers.apart[:NAMED])
        more = f" and {len(layers.apart) - NAMED} more" if len(layers.apart) > NAMED else ""
        found.append(f"{named}{more}: the graph gives other values than the network's layer")
    if layers.num_source_apart > MOST_APART * layers.num_images:
        apart = f"{layers.num_source_apart} of {layers.num_images} images"
        found.append(f"the network that the graph was drawn from differs on {apart}")
    return found


def export_model(
    reader: Reader,
    store: str,
    prefix: str,
    output: Path,
    *,
    form: ExportForm,
    bits: Bits | None,
    work: str | None = None,
) -> ModelExport:
    """Export the trial whose id begins so; InputError where its checkpoint is gone or damaged.

    work: the folder or URL where the run kept its files; None: beside the store.
    """
    if not output.name or output.is_dir():
        raise InputError(f"--output {output}: expected the name of a file, this is a folder")
    trial = reader.trial(prefix)
    checkpoint = _checkpoint(reader, folders_of(store, work), trial)
    try:
        exported = load_exporter(trial.trainer)(trial, checkpoint, output, form=form, bits=bits)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error
    labels = {one.label for one in trial.bits}
    if trial.has_learned_bits:
        labels = {one.bits for one in exported.widths}
    return ModelExport(
        trial=trial,
        exported=exported,
        recorded_bits=reader.recorded_size(trial, labels, exported.convention),
        recorded_correct=_recorded_correct(
            reader, trial, labels | {one.bits for one in exported.widths}
        ),
    )


def _checkpoint(reader: Reader, folders: Folders, trial: Trial) -> Path:
    """The one that its run kept, or that a repetition of it kept."""
    ended = reader.ended([trial.id]).get(trial.id)
    if ended is None or not isinstance(ended.outcome, Finished):
        raise InputError(f"trial {trial.short_id} has not finished: it has no final network")
    kept = ended.outcome.checkpoint
    if kept is not None and (path := folders.find_checkpoint(kept)) is not None:
        return path
    if (repeated := folders.checkpoint(trial.id)).is_file():
        return repeated
    again = reader.sweep(reader.sweep_of(trial.id)).command
    raise InputError(
        f"no sound checkpoint of trial {trial.short_id} lies in {folders.checkpoints_place}: "
        f"`{again} --trial {trial.short_id}` trains it again and keeps it"
    )


def _recorded_correct(reader: Reader, trial: Trial, labels: set[str]) -> Mapping[str, int]:
    scores = reader.scores(trial.id, split="validation")
    last = max((one.epoch for one in scores), default=0)
    return {
        one.allocation: one.correct
        for one in scores
        if one.epoch == last and one.allocation in labels and one.correct is not None
    }
