"""The first schema: all tables, and the views made for people."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

VIEWS = {
    "member_results": """
SELECT s.name AS sweep, a.name AS arm, t.method AS method, t.id AS trial_id, t.seed AS seed,
    b.stage AS stage, COALESCE(o.status, 'running') AS status, m.split AS split,
    al.label AS allocation, m.allocator AS allocator, m.protocol AS protocol, m.epoch AS epoch,
    m.correct AS correct, m.total AS total, 100.0 * m.correct / m.total AS top1_percent,
    m.loss_sum / m.total AS loss,
    CASE s.convention WHEN 'body' THEN m.bitops_body WHEN 'whole_ends32' THEN m.bitops_whole_ends32
        WHEN 'whole_agent' THEN m.bitops_whole_agent ELSE m.bitops_whole_ends8 END AS bitops,
    CASE s.convention WHEN 'body' THEN m.size_bits_body
        WHEN 'whole_ends32' THEN m.size_bits_whole_ends32
        WHEN 'whole_agent' THEN m.size_bits_whole_agent
        ELSE m.size_bits_whole_ends8 END AS size_bits,
    m.mean_weight_bits AS mean_weight_bits, s.convention AS convention,
    b.configuration_id AS configuration_id
FROM memberships b
JOIN sweeps s ON s.id = b.sweep_id
JOIN trials t ON t.id = b.trial_id
JOIN measurements m ON m.trial_id = t.id AND m.epoch = t.last_epoch
JOIN allocations al ON al.id = m.allocation_id
LEFT JOIN arms a ON a.id = b.arm_id
LEFT JOIN outcomes o ON o.trial_id = t.id
WHERE a.is_current IS NULL OR a.is_current
""",
    "results": """
SELECT DISTINCT sweep, arm, method, trial_id, seed, stage, status, split, allocation, allocator,
    protocol, epoch, correct, total, top1_percent, loss, bitops, size_bits, mean_weight_bits,
    convention
FROM member_results
""",
    "best_per_bit": """
SELECT sweep, allocation, arm, method, mean_top1_percent, n, convention FROM (
    SELECT sweep, allocation, arm, method, AVG(top1_percent) AS mean_top1_percent, COUNT(*) AS n,
        MIN(convention) AS convention,
        ROW_NUMBER() OVER (PARTITION BY sweep, allocation ORDER BY AVG(top1_percent) DESC) AS place
    FROM results WHERE stage = 'confirm' AND split = 'test' AND status = 'finished'
    GROUP BY sweep, allocation, arm, method
) AS ranked WHERE place = 1
""",
}


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "data",
            sa.String(length=64),
            nullable=False,
            comment="the data whose shape it was built for",
        ),
        sa.Column("digest", sa.String(length=64), nullable=False, comment="of the layers"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("digest", name=op.f("uq_models_digest")),
        comment="a network at an input shape",
    )
    op.create_table(
        "provenance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("git_commit", sa.String(length=40), nullable=True),
        sa.Column("git_is_dirty", sa.Boolean(), nullable=True),
        sa.Column("git_diff", sa.Text(), nullable=True, comment="what differed from the commit"),
        sa.Column("python", sa.String(length=32), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False, comment="of the packages that matter"),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provenance")),
        sa.UniqueConstraint("digest", name=op.f("uq_provenance_digest")),
        comment="code, packages and machine of attempts",
    )
    op.create_table(
        "published_results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("paper", sa.String(length=200), nullable=False),
        sa.Column("place", sa.String(length=200), nullable=False, comment="table or figure"),
        sa.Column("dataset", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("weight_bits", sa.String(length=16), nullable=False),
        sa.Column("activation_bits", sa.String(length=16), nullable=False),
        sa.Column("top1_percent", sa.Float(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_published_results")),
        comment="numbers that papers print; never mixed with ours",
    )
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False, comment="the sweep's name"),
        sa.Column("question", sa.Text(), nullable=False, comment="what it asks"),
        sa.Column("reproduces", sa.Text(), nullable=False, comment="the claim it goes back to"),
        sa.Column("expects", sa.Text(), nullable=False, comment="what was expected before it ran"),
        sa.Column("cost", sa.Text(), nullable=False, comment="what it was said to cost"),
        sa.Column("text", sa.Text(), nullable=False, comment="the sweep file as last run"),
        sa.Column(
            "text_sha256", sa.String(length=64), nullable=False, comment="digest of that text"
        ),
        sa.Column(
            "command",
            sa.Text(),
            nullable=False,
            comment="what ran it last",
        ),
        sa.Column("goal", sa.String(length=8), nullable=False, comment="maximize | minimize"),
        sa.Column(
            "convention", sa.String(length=20), nullable=False, comment="default cost convention"
        ),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("name", name=op.f("uq_sweeps_name")),
        comment="one question each",
    )
    op.create_table(
        "allocations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "digest", sa.String(length=64), nullable=False, comment="of label, model and bits"
        ),
        sa.Column(
            "label", sa.Text(), nullable=False, comment="w4a4, or bits per layer, or policy:NAME"
        ),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_allocations_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allocations")),
        sa.UniqueConstraint("digest", name=op.f("uq_allocations_digest")),
        comment="bits given to the layers of a model, stored once",
    )
    with op.batch_alter_table("allocations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_allocations_model_id"), ["model_id"], unique=False)

    op.create_table(
        "arms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column(
            "digest",
            sa.String(length=64),
            nullable=False,
            comment="of task, arm, search and objectives",
        ),
        sa.Column("position", sa.Integer(), nullable=False, comment="order in the sweep file"),
        sa.Column(
            "is_current",
            sa.Boolean(),
            nullable=False,
            comment="stands in the sweep file as last run",
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_arms_sweep_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arms")),
        sa.UniqueConstraint(
            "sweep_id", "name", "digest", name=op.f("uq_arms_sweep_id_name_digest")
        ),
        comment="one method with its space inside a sweep; an edited arm is a new row",
    )
    with op.batch_alter_table("arms", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_arms_sweep_id"), ["sweep_id"], unique=False)

    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(length=200), nullable=False),
        sa.Column("against", sa.String(length=200), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False, comment="bits, such as w3a3"),
        sa.Column("declared_at", sa.String(length=32), nullable=False),
        sa.Column(
            "is_primary",
            sa.Boolean(),
            nullable=False,
            comment="declared before either was measured",
        ),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_comparisons_sweep_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
        sa.UniqueConstraint(
            "sweep_id", "arm", "against", "at", name=op.f("uq_comparisons_sweep_id_arm_against_at")
        ),
        comment="claims declared in the sweep file: the family of the Holm correction",
    )
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_comparisons_sweep_id"), ["sweep_id"], unique=False)

    op.create_table(
        "layers",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False, comment="order of execution, from 0"),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "kind", sa.String(length=16), nullable=False, comment="conv | depthwise | linear"
        ),
        sa.Column(
            "place", sa.String(length=8), nullable=False, comment="first | body | last | agent"
        ),
        sa.Column("macs", sa.BigInteger(), nullable=False),
        sa.Column("weights", sa.BigInteger(), nullable=False),
        sa.Column("biases", sa.Integer(), nullable=False),
        sa.Column(
            "norm_channels", sa.Integer(), nullable=False, comment="channels of its batch norm"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_layers_model_id")),
        sa.PrimaryKeyConstraint("model_id", "layer", name=op.f("pk_layers")),
        comment="the layers with multiplications",
    )
    op.create_table(
        "trials",
        sa.Column(
            "id",
            sa.String(length=64),
            nullable=False,
            comment="SHA-256 of what determines the numbers",
        ),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("data", sa.String(length=64), nullable=False),
        sa.Column(
            "bits",
            sa.String(length=200),
            nullable=False,
            comment="widths the network is trained for",
        ),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column(
            "start_id", sa.String(length=64), nullable=True, comment="the trial it starts from"
        ),
        sa.Column(
            "document", sa.JSON(), nullable=False, comment="the whole content of the identity"
        ),
        sa.Column("last_epoch", sa.Integer(), nullable=True, comment="of its newest evaluation"),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_trials_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        comment="one training each, whichever sweeps contain it",
    )
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trials_method"), ["method"], unique=False)
        batch_op.create_index(batch_op.f("ix_trials_model_id"), ["model_id"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("provenance_id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["provenance_id"], ["provenance.id"], name=op.f("fk_attempts_provenance_id")
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_attempts_sweep_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_attempts_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        comment="each time a trial was given to a worker",
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_attempts_provenance_id"), ["provenance_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_attempts_sweep_id"), ["sweep_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_attempts_trial_id"), ["trial_id"], unique=False)

    op.create_table(
        "claims",
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column(
            "owner",
            sa.String(length=200),
            nullable=False,
            comment="host:process:run of the driver",
        ),
        sa.Column(
            "heartbeat_at",
            sa.Float(),
            nullable=False,
            comment="Unix time of the last sign of life",
        ),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_claims_trial_id")),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_claims")),
        comment="which driver runs a trial at this moment",
    )
    op.create_table(
        "configurations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("arm_id", sa.Integer(), nullable=False),
        sa.Column(
            "study",
            sa.String(length=200),
            nullable=False,
            comment="bits its objective is taken at",
        ),
        sa.Column(
            "number", sa.Integer(), nullable=False, comment="order of proposal in its study"
        ),
        sa.Column("parameters", sa.JSON(), nullable=False, comment="as proposed"),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["arm_id"], ["arms.id"], name=op.f("fk_configurations_arm_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configurations")),
        sa.UniqueConstraint(
            "arm_id", "study", "digest", name=op.f("uq_configurations_arm_id_study_digest")
        ),
        comment="what a sampler proposed; its trials are in memberships",
    )
    with op.batch_alter_table("configurations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_configurations_arm_id"), ["arm_id"], unique=False)

    op.create_table(
        "conflicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("recorded", sa.JSON(), nullable=False, comment="the facts that stand"),
        sa.Column("arrived", sa.JSON(), nullable=False, comment="the facts that differ"),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_conflicts_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conflicts")),
        comment="measurements that came again with other facts; none should ever stand here",
    )
    with op.batch_alter_table("conflicts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_conflicts_trial_id"), ["trial_id"], unique=False)

    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False, comment="training time up to here"),
        sa.Column("examples", sa.Integer(), nullable=False, comment="examples seen up to here"),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_evaluations_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint("trial_id", "epoch", name=op.f("uq_evaluations_trial_id_epoch")),
        comment="one round of measurements of a trial",
    )
    op.create_table(
        "layer_bits",
        sa.Column("allocation_id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column(
            "variant", sa.Integer(), nullable=False, comment="0, or one per bits a policy gives"
        ),
        sa.Column("weight_bits", sa.Float(), nullable=False, comment="factor of the BitOps"),
        sa.Column("activation_bits", sa.Float(), nullable=False, comment="factor of the BitOps"),
        sa.Column(
            "stored_bits", sa.Float(), nullable=False, comment="on disk, per weight of one network"
        ),
        sa.Column("scalars", sa.Integer(), nullable=False, comment="32-bit steps and zero-points"),
        sa.Column(
            "norm_copies", sa.Integer(), nullable=False, comment="batch norms kept side by side"
        ),
        sa.Column(
            "share", sa.Float(), nullable=False, comment="part of the samples run at these bits"
        ),
        sa.ForeignKeyConstraint(
            ["allocation_id"], ["allocations.id"], name=op.f("fk_layer_bits_allocation_id")
        ),
        sa.PrimaryKeyConstraint("allocation_id", "layer", "variant", name=op.f("pk_layer_bits")),
        comment="the bits of each layer of an allocation",
    )
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False, comment="validation | test"),
        sa.Column("allocation_id", sa.Integer(), nullable=False),
        sa.Column("allocator", sa.String(length=16), nullable=False, comment="who chose the bits"),
        sa.Column(
            "lambda",
            sa.Float(),
            nullable=True,
            comment="the allocator's price of BitOps, where it has one",
        ),
        sa.Column(
            "protocol",
            sa.String(length=16),
            nullable=False,
            comment="batch norm: running | re-estimated",
        ),
        sa.Column(
            "correct", sa.Integer(), nullable=True, comment="right answers; empty for a regression"
        ),
        sa.Column("total", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("loss_sum", sa.Float(), nullable=True, comment="loss summed over samples"),
        sa.Column(
            "metric_sums", sa.JSON(), nullable=False, comment="further metrics summed over samples"
        ),
        sa.Column(
            "mean_weight_bits", sa.Float(), nullable=False, comment="of the body, by weights"
        ),
        sa.Column("bitops_body", sa.Float(), nullable=False),
        sa.Column("bitops_whole_ends8", sa.Float(), nullable=False),
        sa.Column("bitops_whole_ends32", sa.Float(), nullable=False),
        sa.Column("bitops_whole_agent", sa.Float(), nullable=False),
        sa.Column("size_bits_body", sa.BigInteger(), nullable=False),
        sa.Column("size_bits_whole_ends8", sa.BigInteger(), nullable=False),
        sa.Column("size_bits_whole_ends32", sa.BigInteger(), nullable=False),
        sa.Column("size_bits_whole_agent", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["allocation_id"], ["allocations.id"], name=op.f("fk_measurements_allocation_id")
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["trials.id"], name=op.f("fk_measurements_trial_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
        comment="what was counted on one split at one allocation: raw facts",
    )
    with op.batch_alter_table("measurements", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_measurements_allocation_id"), ["allocation_id"], unique=False
        )

    op.create_table(
        "outcomes",
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=True, comment="the last one that was measured"),
        sa.Column(
            "checkpoint",
            sa.String(length=64),
            nullable=True,
            comment="SHA-256 of the kept checkpoint",
        ),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_outcomes_sweep_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_outcomes_trial_id")),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_outcomes")),
        comment="how a trial ended: finished, pruned, diverged, failed or interrupted",
    )
    with op.batch_alter_table("outcomes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outcomes_sweep_id"), ["sweep_id"], unique=False)

    op.create_table(
        "parameters",
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Float(), nullable=True, comment="the value, if it is a number"),
        sa.Column("text", sa.Text(), nullable=False, comment="the value as text"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_parameters_trial_id")),
        sa.PrimaryKeyConstraint("trial_id", "name", name=op.f("pk_parameters")),
        comment="resolved parameters of a trial",
    )
    op.create_table(
        "memberships",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("arm_id", sa.Integer(), nullable=True),
        sa.Column("configuration_id", sa.Integer(), nullable=True),
        sa.Column("trial_id", sa.String(length=64), nullable=False),
        sa.Column(
            "stage", sa.String(length=8), nullable=False, comment="start | search | confirm"
        ),
        sa.ForeignKeyConstraint(["arm_id"], ["arms.id"], name=op.f("fk_memberships_arm_id")),
        sa.ForeignKeyConstraint(
            ["configuration_id"],
            ["configurations.id"],
            name=op.f("fk_memberships_configuration_id"),
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_memberships_sweep_id")),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_memberships_trial_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memberships")),
        comment="which trial serves which arm of which sweep, and in which stage",
    )
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_memberships_arm_id"), ["arm_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_memberships_configuration_id"), ["configuration_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_memberships_sweep_id"), ["sweep_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_memberships_trial_id"), ["trial_id"], unique=False)

    op.create_table(
        "sample_costs",
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("bitops", sa.Float(), nullable=False, comment="of one sample, body"),
        sa.Column("count", sa.Integer(), nullable=False, comment="samples of that cost"),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name=op.f("fk_sample_costs_measurement_id")
        ),
        sa.PrimaryKeyConstraint("measurement_id", "bitops", name=op.f("pk_sample_costs")),
        comment="how BitOps spread over samples, for allocations chosen per sample",
    )
    op.create_index(
        "uq_memberships",
        "memberships",
        [
            "sweep_id",
            "trial_id",
            "stage",
            sa.text("coalesce(arm_id, -1)"),
            sa.text("coalesce(configuration_id, -1)"),
        ],
        unique=True,
    )
    op.create_index(
        "uq_measurements",
        "measurements",
        [
            "trial_id",
            "epoch",
            "split",
            "allocation_id",
            "allocator",
            sa.text("coalesce(lambda, -1.0)"),
            "protocol",
        ],
        unique=True,
    )
    for name, select in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.drop_table("sample_costs")
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_memberships_trial_id"))
        batch_op.drop_index(batch_op.f("ix_memberships_sweep_id"))
        batch_op.drop_index(batch_op.f("ix_memberships_configuration_id"))
        batch_op.drop_index(batch_op.f("ix_memberships_arm_id"))

    op.drop_table("memberships")
    op.drop_table("parameters")
    with op.batch_alter_table("outcomes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outcomes_sweep_id"))

    op.drop_table("outcomes")
    with op.batch_alter_table("measurements", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_measurements_allocation_id"))

    op.drop_table("measurements")
    op.drop_table("layer_bits")
    op.drop_table("evaluations")
    with op.batch_alter_table("conflicts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_conflicts_trial_id"))

    op.drop_table("conflicts")
    with op.batch_alter_table("configurations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_configurations_arm_id"))

    op.drop_table("configurations")
    op.drop_table("claims")
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_attempts_trial_id"))
        batch_op.drop_index(batch_op.f("ix_attempts_sweep_id"))
        batch_op.drop_index(batch_op.f("ix_attempts_provenance_id"))

    op.drop_table("attempts")
    with op.batch_alter_table("trials", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_trials_model_id"))
        batch_op.drop_index(batch_op.f("ix_trials_method"))

    op.drop_table("trials")
    op.drop_table("layers")
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_comparisons_sweep_id"))

    op.drop_table("comparisons")
    with op.batch_alter_table("arms", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_arms_sweep_id"))

    op.drop_table("arms")
    with op.batch_alter_table("allocations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_allocations_model_id"))

    op.drop_table("allocations")
    op.drop_table("sweeps")
    op.drop_table("published_results")
    op.drop_table("provenance")
    op.drop_table("models")
