"""What the mirror keeps as files: bits per layer, where a checkpoint lies, the sweep's documents.

Trials of the search have none: there are many of them, they keep no checkpoint, and their bits
are in the store.
"""

import json
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from bitsweep.store.history import final_layer_widths
from bitsweep.store.reader import Reader
from bitsweep.store.records import TrialRow
from bitsweep.trial import Finished

LAYERS_FILE = "layers.json"
CHECKPOINT_FILE = "checkpoint.json"


def log_trial_files(
    client: MlflowClient, run_id: str, reader: Reader, row: TrialRow, *, place: str | None
) -> None:
    """Log what a trial leaves that ended and was not of the search; again: the same files.

    place: the folder or URL of the kept checkpoints, None where it is not known.
    """
    ended = reader.ended([row.trial_id]).get(row.trial_id)
    if row.stage == "search" or ended is None or not isinstance(ended.outcome, Finished):
        return
    _log(client, run_id, LAYERS_FILE, _layers(reader, row.trial_id))
    if ended.outcome.checkpoint is not None:
        reference = {
            "trial": row.trial_id,
            "sha256": ended.outcome.checkpoint,
            "location": checkpoint_location(ended.outcome.checkpoint, place),
            "packed_file": f"bitsweep export-model {row.trial_id[:12]} --output model.bits",
        }
        _log(client, run_id, CHECKPOINT_FILE, reference)
        client.set_tag(run_id, "bitsweep.checkpoint", ended.outcome.checkpoint)


def log_documents(client: MlflowClient, run_id: str, documents: Mapping[str, str]) -> None:
    """Log texts under their file names."""
    for name, text in documents.items():
        client.log_text(run_id, text, name)


def checkpoint_location(sha256: str, place: str | None) -> str | None:
    """Where a kept checkpoint lies."""
    return None if place is None else f"{place.rstrip('/')}/{sha256}.pt"


def _layers(reader: Reader, trial_id: str) -> list[dict[str, Any]]:
    """The bits of each layer at the last epoch, by allocation."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in final_layer_widths(reader, trial_id):
        layer = {
            "layer": one.layer,
            "name": one.name,
            "weight_bits": one.weight_bits,
            "activation_bits": one.activation_bits,
        }
        found.setdefault(one.allocation, []).append(layer)
    return [{"allocation": label, "layers": layers} for label, layers in found.items()]


def _log(client: MlflowClient, run_id: str, name: str, document: object) -> None:
    client.log_text(run_id, json.dumps(document, indent=2) + "\n", name)
