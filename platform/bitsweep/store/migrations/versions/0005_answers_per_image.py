"""Right and wrong image by image, where a sweep keeps them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column(
            "bits",
            sa.LargeBinary(),
            nullable=False,
            comment="one bit per sample in the order of the split, 1 where the answer was right; "
            "the first sample is the highest bit of the first byte",
        ),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name=op.f("fk_answers_measurement_id")
        ),
        sa.PrimaryKeyConstraint("measurement_id", name=op.f("pk_answers")),
        comment="right and wrong image by image on test, where the sweep keeps them",
    )


def downgrade() -> None:
    op.drop_table("answers")
