"""Whether a store has changed since it was last looked at: one query over indexes."""

from sqlalchemy import func, select

from bitsweep.store import schema
from bitsweep.store.reader import Reader


def pulse(reader: Reader) -> str:
    """A text that differs after each evaluation, attempt, claim, outcome or edited sweep file.

    Keys are only looked up at the end of their index; `claims` holds what runs now, which is
    little. Every outcome takes a claim away, so that outcomes need no look of their own.
    """
    claims = schema.claims
    newest = [
        select(func.max(table.c.id)).scalar_subquery()
        for table in (schema.evaluations, schema.attempts, schema.memberships, schema.sweeps)
    ]
    query = select(
        *(one.label(f"newest_{place}") for place, one in enumerate(newest)),
        select(func.max(schema.sweeps.c.updated_at)).scalar_subquery().label("edited"),
        select(func.count()).select_from(claims).scalar_subquery().label("running"),
        select(func.min(claims.c.trial_id)).scalar_subquery().label("first"),
        select(func.max(claims.c.trial_id)).scalar_subquery().label("last"),
    )
    return "|".join(str(value) for value in reader.rows(query)[0].values())
