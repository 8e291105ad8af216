"""The ten queries of docs/queries.md, as the page of questions offers them: (title, SQL)."""

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "Mean accuracy per arm and bits, on test",
        """\
SELECT sweep, arm, allocation, AVG(top1_percent) AS mean_top1_percent, COUNT(*) AS n
FROM results
WHERE stage = 'confirm' AND split = 'test' AND status = 'finished'
GROUP BY sweep, arm, allocation
ORDER BY sweep, allocation, mean_top1_percent DESC""",
    ),
    (
        "The best arm at each bit-width",
        """\
SELECT sweep, allocation, arm, mean_top1_percent, n
FROM best_per_bit
ORDER BY sweep, allocation""",
    ),
    (
        "How far each arm stays below full precision",
        """\
SELECT low.sweep, low.arm, low.allocation, AVG(low.top1_percent - high.top1_percent) AS points,
    COUNT(*) AS pairs
FROM results AS low
JOIN results AS high ON high.sweep = low.sweep AND high.seed = low.seed
    AND high.split = low.split AND high.stage = low.stage AND high.allocation = 'w32a32'
WHERE low.split = 'test' AND low.stage = 'confirm' AND low.status = 'finished'
    AND low.allocation <> 'w32a32'
GROUP BY low.sweep, low.arm, low.allocation
ORDER BY points""",
    ),
    (
        "Two arms, seed by seed",
        """\
SELECT one.sweep, one.allocation, one.seed, one.arm, other.arm AS against,
    one.correct - other.correct AS more_correct, one.total
FROM results AS one
JOIN results AS other ON other.sweep = one.sweep AND other.allocation = one.allocation
    AND other.seed = one.seed AND other.split = one.split AND other.stage = one.stage
    AND other.allocator = one.allocator AND other.arm > one.arm
WHERE one.split = 'test' AND one.stage = 'confirm'
ORDER BY one.sweep, one.allocation, one.arm, against, one.seed""",
    ),
    (
        "Accuracy against cost, with what validation would choose first",
        """\
SELECT sweep, arm, allocation, n, mean_top1_percent, mean_bitops, mean_size_bits, convention,
    mean_validation_top1_percent
FROM accuracy_cost
WHERE allocator IN ('fixed', 'learned')
ORDER BY sweep, mean_bitops, mean_validation_top1_percent DESC""",
    ),
    (
        "The learning curve of every confirmed trial",
        """\
SELECT DISTINCT a.name AS arm, t.seed, al.label AS allocation, m.epoch,
    100.0 * m.correct / m.total AS top1_percent
FROM measurements AS m
JOIN trials AS t ON t.id = m.trial_id
JOIN memberships AS b ON b.trial_id = t.id
JOIN arms AS a ON a.id = b.arm_id
JOIN allocations AS al ON al.id = m.allocation_id
WHERE m.split = 'validation' AND b.stage = 'confirm'
ORDER BY arm, allocation, seed, epoch""",
    ),
    (
        "What the search tried, best first",
        """\
SELECT r.sweep, r.arm, r.allocation, r.top1_percent, p.parameters
FROM results AS r
JOIN trial_parameters_wide AS p ON p.sweep = r.sweep AND p.arm = r.arm AND p.stage = r.stage
    AND p.trial_id = r.trial_id
WHERE r.stage = 'search' AND r.split = 'validation'
ORDER BY r.sweep, r.top1_percent DESC""",
    ),
    (
        "What failed, and why",
        """\
SELECT t.method, t.bits, t.seed, o.status, o.reason
FROM outcomes AS o
JOIN trials AS t ON t.id = o.trial_id
WHERE o.status IN ('failed', 'diverged')
ORDER BY o.status, t.method""",
    ),
    (
        "Training time by method and bits",
        """\
SELECT t.method, t.bits, AVG(e.seconds) AS mean_seconds, MAX(e.seconds) AS longest, COUNT(*) AS n
FROM trials AS t
JOIN evaluations AS e ON e.trial_id = t.id AND e.epoch = t.last_epoch
GROUP BY t.method, t.bits
ORDER BY mean_seconds DESC""",
    ),
    (
        "Bits per layer of each allocation",
        """\
SELECT al.label AS allocation, l.layer, l.name, l.place,
    SUM(b.share * b.weight_bits) AS weight_bits,
    SUM(b.share * b.activation_bits) AS activation_bits
FROM allocations AS al
JOIN layer_bits AS b ON b.allocation_id = al.id
JOIN layers AS l ON l.model_id = al.model_id AND l.layer = b.layer
GROUP BY al.id, al.label, l.layer, l.name, l.place
ORDER BY allocation, al.id, l.layer""",
    ),
)
