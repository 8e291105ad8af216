"""Right and wrong image by image, as the store keeps them for analysis."""

from collections.abc import Sequence

from sqlalchemy import select

from bitsweep.store import schema
from bitsweep.store.reader import Reader
from bitsweep.store.transfer import batches


def kept_answers(
    reader: Reader, trial_ids: Sequence[str], *, split: str = "test"
) -> dict[tuple[str, str], bytes]:
    """By trial and allocation the answers at the trial's last epoch, where they were kept."""
    table, answers = schema.measurements, schema.answers
    trials, allocations = schema.trials, schema.allocations
    last = (trials.c.id == table.c.trial_id) & (trials.c.last_epoch == table.c.epoch)
    query = (
        select(table.c.trial_id, allocations.c.label, answers.c.bits)
        .select_from(
            answers.join(table, table.c.id == answers.c.measurement_id)
            .join(trials, last)
            .join(allocations, allocations.c.id == table.c.allocation_id)
        )
        .where(table.c.split == split)
    )
    found = {}
    for some in batches(trial_ids):
        for row in reader.rows(query.where(table.c.trial_id.in_(some))):
            found[row["trial_id"], row["label"]] = bytes(row["bits"])
    return found
