"""Requests to the drivers of a sweep: stop, cancel."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="stop | cancel"),
        sa.Column("made_at", sa.String(length=32), nullable=False),
        sa.Column(
            "made_by", sa.String(length=255), nullable=False, comment="host:process that asked"
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_requests_sweep_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
        comment="what drivers of a sweep were asked to do; "
        "each heeds what came after its own start",
    )
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_requests_sweep_id"), ["sweep_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_requests_sweep_id"))

    op.drop_table("requests")
