"""Both sides of a comparison stand where they stand; the best arm is chosen on validation.

Every view is made anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
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
    b.configuration_id AS configuration_id, s.metric AS metric, s.goal AS goal,
    CASE s.metric WHEN 'top1_percent' THEN 100.0 * m.correct / m.total
        WHEN 'loss' THEN m.loss_sum / m.total
        ELSE CAST(m.metric_sums ->> s.metric AS FLOAT) / m.total END AS value
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
    "scores": """
SELECT DISTINCT sweep, arm, method, trial_id, seed, stage, status, split, allocation, allocator,
    protocol, epoch, metric, goal, value, bitops, size_bits, mean_weight_bits, convention
FROM member_results
""",
    "accuracy_cost": """
SELECT sweep, arm, method, configuration_id, allocation, allocator, protocol,
    SUM(CASE WHEN split = 'test' THEN 1 ELSE 0 END) AS n,
    AVG(CASE WHEN split = 'test' THEN top1_percent END) AS mean_top1_percent,
    MIN(CASE WHEN split = 'test' THEN top1_percent END) AS lowest_top1_percent,
    MAX(CASE WHEN split = 'test' THEN top1_percent END) AS highest_top1_percent,
    AVG(CASE WHEN split = 'validation' THEN top1_percent END) AS mean_validation_top1_percent,
    AVG(CASE WHEN split = 'test' THEN bitops END) AS mean_bitops,
    AVG(CASE WHEN split = 'test' THEN size_bits END) AS mean_size_bits,
    AVG(CASE WHEN split = 'test' THEN mean_weight_bits END) AS mean_weight_bits,
    MIN(convention) AS convention, MIN(metric) AS metric, MIN(goal) AS goal,
    AVG(CASE WHEN split = 'test' THEN value END) AS mean_value,
    AVG(CASE WHEN split = 'validation' THEN value END) AS mean_validation_value
FROM member_results
WHERE stage = 'confirm' AND status = 'finished'
GROUP BY sweep, arm, method, configuration_id, allocation, allocator, protocol
""",
    "best_per_bit": """
SELECT sweep, allocation, arm, method, mean_top1_percent, n, convention, metric, mean_value FROM (
    SELECT sweep, allocation, arm, method, n, convention, metric, mean_value,
        CASE metric WHEN 'top1_percent' THEN mean_value END AS mean_top1_percent,
        ROW_NUMBER() OVER (PARTITION BY sweep, allocation ORDER BY
            CASE WHEN mean_validation_value IS NULL THEN 1 ELSE 0 END,
            CASE goal WHEN 'minimize' THEN mean_validation_value ELSE -mean_validation_value END,
            arm, configuration_id
        ) AS place
    FROM accuracy_cost WHERE n > 0 AND mean_value IS NOT NULL AND allocator <> 'oracle'
) AS ranked WHERE place = 1
""",
    "trial_parameters_wide": """
SELECT s.name AS sweep, a.name AS arm, b.stage AS stage, t.method AS method, t.id AS trial_id,
    t.bits AS bits, t.seed AS seed, t.epochs AS epochs, COALESCE(o.status, 'running') AS status,
    lr.number AS learning_rate, wd.number AS weight_decay, t.document -> 'parameters' AS parameters
FROM (SELECT DISTINCT sweep_id, arm_id, trial_id, stage FROM memberships) AS b
JOIN sweeps s ON s.id = b.sweep_id
JOIN trials t ON t.id = b.trial_id
LEFT JOIN arms a ON a.id = b.arm_id
LEFT JOIN outcomes o ON o.trial_id = t.id
LEFT JOIN parameters lr ON lr.trial_id = t.id AND lr.name = 'learning_rate'
LEFT JOIN parameters wd ON wd.trial_id = t.id AND wd.name = 'weight_decay'
WHERE a.is_current IS NULL OR a.is_current
""",
}
BEST_BEFORE = """
SELECT sweep, allocation, arm, method, mean_top1_percent, n, convention, metric, mean_value FROM (
    SELECT r.sweep AS sweep, r.allocation AS allocation, r.arm AS arm, r.method AS method,
        CASE MIN(r.metric) WHEN 'top1_percent' THEN AVG(r.value) END AS mean_top1_percent,
        COUNT(*) AS n, MIN(r.convention) AS convention, MIN(r.metric) AS metric,
        AVG(r.value) AS mean_value,
        ROW_NUMBER() OVER (PARTITION BY r.sweep, r.allocation ORDER BY
            CASE MIN(r.goal) WHEN 'minimize' THEN -AVG(r.value) ELSE AVG(r.value) END DESC
        ) AS place
    FROM scores r WHERE r.stage = 'confirm' AND r.split = 'test' AND r.status = 'finished'
    GROUP BY r.sweep, r.allocation, r.arm, r.method
) AS ranked WHERE place = 1
"""
UNIQUE = "uq_comparisons_sweep_id_arm_against_at"


def upgrade() -> None:
    _drop_views()
    op.add_column(
        "comparisons",
        sa.Column(
            "against_at",
            sa.String(length=32),
            nullable=True,
            comment="where the other side stands",
        ),
    )
    op.execute('UPDATE comparisons SET against_at = "at"')
    with op.batch_alter_table("comparisons") as batch_op:
        batch_op.alter_column("against_at", existing_type=sa.String(32), nullable=False)
        batch_op.alter_column(
            "at",
            existing_type=sa.String(32),
            existing_nullable=False,
            comment="w3a3, learned, or policy:NAME",
            existing_comment="bits, such as w3a3",
        )
        batch_op.drop_constraint(UNIQUE, type_="unique")
        batch_op.create_unique_constraint(
            f"{UNIQUE}_against_at", ["sweep_id", "arm", "against", "at", "against_at"]
        )
    _create_views(VIEWS)


def downgrade() -> None:
    _drop_views()
    # What an older version cannot say, it would say wrongly.
    op.execute('DELETE FROM comparisons WHERE against_at <> "at"')
    with op.batch_alter_table("comparisons") as batch_op:
        batch_op.drop_constraint(f"{UNIQUE}_against_at", type_="unique")
        batch_op.create_unique_constraint(UNIQUE, ["sweep_id", "arm", "against", "at"])
        batch_op.alter_column(
            "at",
            existing_type=sa.String(32),
            existing_nullable=False,
            comment="bits, such as w3a3",
            existing_comment="w3a3, learned, or policy:NAME",
        )
        batch_op.drop_column("against_at")
    _create_views({**VIEWS, "best_per_bit": BEST_BEFORE})


def _create_views(views: dict[str, str]) -> None:
    for name, select in views.items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def _drop_views() -> None:
    for name in ("trial_parameters_wide", "best_per_bit", "accuracy_cost", "scores", "results"):
        op.execute(f"DROP VIEW {name}")
    op.execute("DROP VIEW member_results")
