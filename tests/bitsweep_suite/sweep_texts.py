"""A sweep file that uses every table, to be spoilt by tests."""

from pathlib import Path

from bitsweep.specfile import read_sweep
from bitsweep.sweep import Sweep
from bitsweep.trainer import load_declarations

DECLARATIONS = load_declarations()
# How an arm of the whole file searches; a mistake may stand in its place.
LSQ_SPACE = 'method = "lsq"\n[arms.space]\nlearning_rate = { log_uniform = [1e-3, 1e-1] }'
# What stands in the file, what is put there, where the line is, key and message.
Mistake = tuple[str, str, str, str, str]
WHOLE = """# bitsweep run sweeps/whole.toml
schema = 1
name = "whole"
question = "Does every table parse?"
reproduces = "nothing"
expects = "yes"
cost = "none"

[task]
data = "fashion-mnist-6k"
model = "small-cnn"
start = { method = "fp32", epochs = 8, parameters = { learning_rate = 0.02 } }
epochs = 4
bits = [2, 3, "w4a4"]
batch_size = 64
convention = "whole_ends8"

[[arms]]
name = "ptq"
method = "ptq"
parameters = { activation_bits = 8 }

[[arms]]
name = "cpq"
method = "cpq_dropbits"
[arms.parameters]
tau = 0.5
[arms.space]
sharing = { choice = ["off", "bitwise", "endpoints"] }
keep_probability = { uniform = [0.7, 0.99], when = { sharing = ["bitwise", "endpoints"] } }
learning_rate = { log_uniform = [5e-3, 1e-1] }

[[arms]]
name = "lsq"
method = "lsq"
[arms.space]
learning_rate = { log_uniform = [1e-3, 1e-1] }

[search]
sampler = "tpe"
configurations_per_arm = 6
seed = 0
seeds = [1000]
scheduler = { asha = { grace_epochs = 2, reduction_factor = 2 } }

[[objectives]]
metric = "top1_percent"
at = ["w3a3"]
goal = "maximize"

[confirm]
best_per_arm = 1
seeds = [0, 1]

[[comparisons]]
arm = "cpq"
against = "lsq"
at = "w3a3"

[resources]
cpus_per_worker = 1
max_concurrent = 2

[budget]
trial_minutes = 10
retries = 2
"""


def line_with(text: str, part: str) -> int:
    """The line (from 1) where the part begins."""
    return 1 + text[: text.index(part)].count("\n")


def read(text: str, folder: Path, *overrides: str) -> Sweep:
    """The sweep of a text."""
    path = folder / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return read_sweep(path, DECLARATIONS, overrides=overrides)
