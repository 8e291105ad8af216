"""The sweep one writes by hand: Tune, OptunaSearch and MLflow's callback, and Tuner.restore.

`python -m tests.faults.by_hand FOLDER run|restore`, with the ledger in the folder. Each trial is
four steps and keeps no checkpoint, as in Tune's own examples.
"""

import json
import os
import sys
import time
from pathlib import Path

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

TRIALS = 12
STEPS = 4
SECONDS_PER_STEP = 1.5
EXPERIMENT = "by-hand"


def train(config: dict[str, float]) -> None:
    """Report a number four times, and tell the ledger."""
    trial = tune.get_context().get_trial_id()
    for step in range(1, STEPS + 1):
        time.sleep(SECONDS_PER_STEP)
        line = json.dumps({"event": "measured", "trial": trial, "epoch": step})
        handle = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)
        tune.report({"score": step - (config["x"] - 0.5) ** 2})


def main(folder: Path, verb: str) -> None:
    """Run the sweep, or take it up again."""
    ledger = {"LEDGER": str(folder / "ledger.jsonl")}
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, runtime_env={"env_vars": ledger}
    )
    trainable = tune.with_resources(train, {"cpu": 1})
    if verb == "restore":
        tune.Tuner.restore(str(folder / EXPERIMENT), trainable=trainable).fit()
        return
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name=EXPERIMENT
    )
    tune.Tuner(
        trainable,
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="score", mode="max"),
            num_samples=TRIALS,
            max_concurrent_trials=2,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT, storage_path=str(folder), verbose=0, callbacks=[callback]
        ),
    ).fit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
