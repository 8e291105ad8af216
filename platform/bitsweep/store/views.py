"""Views made for people, and what each of their columns means.

A changed view needs a migration that makes it anew; the newest one holds them all.
"""

MEMBER_RESULTS_VIEW = """
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
"""
RESULTS_VIEW = """
SELECT DISTINCT sweep, arm, method, trial_id, seed, stage, status, split, allocation, allocator,
    protocol, epoch, correct, total, top1_percent, loss, bitops, size_bits, mean_weight_bits,
    convention
FROM member_results
"""
SCORES_VIEW = """
SELECT DISTINCT sweep, arm, method, trial_id, seed, stage, status, split, allocation, allocator,
    protocol, epoch, metric, goal, value, bitops, size_bits, mean_weight_bits, convention
FROM member_results
"""
ACCURACY_COST_VIEW = """
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
"""
BEST_PER_BIT_VIEW = """
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
"""
TRIAL_PARAMETERS_WIDE_VIEW = """
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
"""
VIEWS = {
    "member_results": MEMBER_RESULTS_VIEW,
    "results": RESULTS_VIEW,
    "scores": SCORES_VIEW,
    "accuracy_cost": ACCURACY_COST_VIEW,
    "best_per_bit": BEST_PER_BIT_VIEW,
    "trial_parameters_wide": TRIAL_PARAMETERS_WIDE_VIEW,
}
VIEW_PURPOSES = {
    "member_results": "`results` with the configuration each row belongs to: the tables' source",
    "results": "one row per trial, split and allocation at the trial's last epoch: start here",
    "scores": "`results` by the metric that each sweep is judged by, whichever it is: `value`",
    "best_per_bit": "per sweep and allocation the confirmed configuration that validation prefers "
    "by that metric, with its mean on test; an oracle is none",
    "accuracy_cost": "accuracy and cost of each confirmed configuration: choose by a validation "
    "column, report the test ones",
    "trial_parameters_wide": "one row per trial of a sweep with all its parameters: the common "
    "ones as columns, all of them as JSON (parameters ->> 'name' reads one)",
}
_RESULTS = {
    "sweep": "the sweep's name",
    "arm": "the arm's name; empty for the training that arms start from",
    "method": "the quantization method",
    "trial_id": "SHA-256 that names the trial",
    "seed": "training seed",
    "stage": "start, search or confirm",
    "status": "finished, pruned, diverged, failed, interrupted or running",
    "split": "validation or test",
    "allocation": "w4a4, or bits per layer, or policy:NAME",
    "allocator": "who chose the bits; an oracle read the labels: an upper bound, no result",
    "protocol": "batch norm: running or re-estimated",
    "epoch": "the trial's last one",
    "correct": "right answers; empty for a regression",
    "total": "samples",
    "top1_percent": "100 correct / total",
    "loss": "mean over samples",
    "bitops": "of one sample, by the sweep's convention",
    "size_bits": "of the stored network in bits, by the sweep's convention",
    "mean_weight_bits": "of the body, by weights",
    "convention": "how BitOps and size are counted",
}
_METRIC = {
    "metric": "what the sweep is judged by",
    "goal": "maximize or minimize it",
}
_VALUE = {"value": "that metric; empty where it was not measured"}
_CONFIGURATION = {"configuration_id": "the row of configurations it belongs to, if any"}
VIEW_COLUMNS: dict[str, dict[str, str]] = {
    "member_results": _RESULTS | _CONFIGURATION | _METRIC | _VALUE,
    "results": _RESULTS,
    "scores": {
        **{name: _RESULTS[name] for name in list(_RESULTS)[:12]},
        **_METRIC,
        **_VALUE,
        **{name: _RESULTS[name] for name in ("bitops", "size_bits", "mean_weight_bits")},
        "convention": _RESULTS["convention"],
    },
    "best_per_bit": {
        **{name: _RESULTS[name] for name in ("sweep", "allocation", "arm", "method")},
        "mean_top1_percent": "mean over the confirmed trials, on test; empty for other metrics",
        "n": "confirmed trials",
        "convention": _RESULTS["convention"],
        "metric": _METRIC["metric"],
        "mean_value": "mean of that metric over the confirmed trials, on test",
    },
    "accuracy_cost": {
        **{name: _RESULTS[name] for name in ("sweep", "arm", "method")},
        **_CONFIGURATION,
        **{name: _RESULTS[name] for name in ("allocation", "allocator", "protocol")},
        "n": "confirmed trials measured on test",
        "mean_top1_percent": "mean over them, on test; empty for a regression",
        "lowest_top1_percent": "of the worst seed, on test",
        "highest_top1_percent": "of the best seed, on test",
        "mean_validation_top1_percent": "mean on validation: what may choose between rows",
        "mean_bitops": "mean over seeds, of one sample, by the sweep's convention",
        "mean_size_bits": "mean over seeds, in bits, by the sweep's convention",
        "mean_weight_bits": "mean over seeds, of the body, by weights",
        "convention": _RESULTS["convention"],
        **_METRIC,
        "mean_value": "mean of that metric, on test",
        "mean_validation_value": "mean of that metric on validation: what may choose between rows",
    },
    "trial_parameters_wide": {
        **{name: _RESULTS[name] for name in ("sweep", "arm", "stage", "method", "trial_id")},
        "bits": "widths the network is trained for",
        "seed": _RESULTS["seed"],
        "epochs": "as planned",
        "status": _RESULTS["status"],
        "learning_rate": "resolved; empty where the method has none",
        "weight_decay": "resolved; empty where the method has none",
        "parameters": "all resolved parameters as a JSON object",
    },
}
