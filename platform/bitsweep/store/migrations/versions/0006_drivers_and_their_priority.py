"""The drivers at this moment, so that one of less priority can give way."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drivers",
        sa.Column(
            "owner",
            sa.String(length=200),
            nullable=False,
            comment="host:process:run, as in claims",
        ),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column(
            "place",
            sa.String(length=255),
            nullable=False,
            comment="the cluster or machine it runs on",
        ),
        sa.Column(
            "priority",
            sa.Integer(),
            nullable=False,
            comment="resources.priority of the sweep file",
        ),
        sa.Column(
            "is_waiting",
            sa.Boolean(),
            nullable=False,
            comment="it would start more trials at once",
        ),
        sa.Column(
            "heartbeat_at",
            sa.Float(),
            nullable=False,
            comment="Unix time of the last sign of life",
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_drivers_sweep_id")),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_drivers")),
        comment="the drivers at this moment, and which of them goes first",
    )
    with op.batch_alter_table("drivers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_drivers_sweep_id"), ["sweep_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("drivers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_drivers_sweep_id"))

    op.drop_table("drivers")
