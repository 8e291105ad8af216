"""A sweep is judged by a metric of its own, views by that metric; proposals may be repeated."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
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
    "best_per_bit": """
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
""",
}
_METRIC = """, s.metric AS metric, s.goal AS goal,
    CASE s.metric WHEN 'top1_percent' THEN 100.0 * m.correct / m.total
        WHEN 'loss' THEN m.loss_sum / m.total
        ELSE CAST(m.metric_sums ->> s.metric AS FLOAT) / m.total END AS value"""
BEFORE = {
    "member_results": VIEWS["member_results"].replace(_METRIC, ""),
    "results": VIEWS["results"],
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
    _drop(BEFORE)
    op.add_column(
        "sweeps",
        sa.Column(
            "metric",
            sa.String(length=64),
            nullable=False,
            server_default="top1_percent",
            comment="what it is judged by: its tables and figures show it",
        ),
    )
    _create(VIEWS)
    _comment(
        table="what a sampler proposed, repetitions included; its trials are in memberships",
        digest="of the parameters, if not a repetition",
    )


def downgrade() -> None:
    _comment(table="what a sampler proposed; its trials are in memberships", digest=None)
    _drop(VIEWS)
    op.drop_column("sweeps", "metric")
    _create(BEFORE)


def _comment(*, table: str, digest: str | None) -> None:
    """What `configurations` says of itself; SQLite keeps no comments."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.create_table_comment("configurations", table)
    op.alter_column(
        "configurations", "digest", comment=digest, existing_type=sa.String(64), nullable=False
    )


def _create(views: dict[str, str]) -> None:
    for name, select in views.items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def _drop(views: dict[str, str]) -> None:
    for name in reversed(views):
        op.execute(f"DROP VIEW {name}")
