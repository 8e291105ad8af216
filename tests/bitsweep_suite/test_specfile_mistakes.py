"""Every mistake in a sweep file is one line: file, line, key, what was expected, nearest name."""

import re
from pathlib import Path

import pytest
from tests.bitsweep_suite.sweep_texts import DECLARATIONS, WHOLE, line_with, read

from bitsweep.errors import InputError
from bitsweep.specfile import read_sweep

LSQ_SPACE = 'method = "lsq"\n[arms.space]\nlearning_rate = { log_uniform = [1e-3, 1e-1] }'
# A mistake: what stands in the file, what is put there, where the line is, key and message.
MISTAKES: dict[str, tuple[str, str, str, str, str]] = {
    "a negative price of bits": (
        "tau = 0.5",
        'task = "hetero"\nlambda = -0.5',
        "lambda =",
        "arms[1].parameters.lambda",
        "lambda must be a number in [0, 10], got -0.5 (method cpq_dropbits)",
    ),
    "a method that learns no lengths": (
        'method = "lsq"',
        'method = "lsq"\nparameters = { task = "hetero" }',
        'task = "hetero"',
        "arms[2].parameters.task",
        "lsq has no such parameter",
    ),
    "bits that nobody learned": (
        'method = "lsq"\n[arms.space]\nlearning_rate = { log_uniform = [1e-3, 1e-1] }',
        'method = "cpq_dropbits"\nfrom = { arm = "cpq", take = "allocation" }',
        "from =",
        "arms[2].from.take",
        "arm 'cpq' (cpq_dropbits) learns no bits that could be taken; methods that can: adaqat, "
        "cpq_dropbits",
    ),
    "unknown form of an allocation": (
        'method = "lsq"\n[arms.space]\nlearning_rate = { log_uniform = [1e-3, 1e-1] }',
        'method = "lsq"\nfrom = { arm = "cpq", take = "allocation", as = "copied" }',
        "from =",
        "arms[2].from.as",
        "expected 'kept', 'shuffled' or 'uniform', got 'copied'",
    ),
    "unknown key at the top": (
        "schema = 1",
        "schema = 1\nquestoin = 1",
        "questoin",
        "questoin",
        "unknown key (did you mean 'question'?); known: schema, name",
    ),
    "unknown key in a table": (
        "epochs = 4",
        "epoch = 4",
        "epoch = 4",
        "task.epoch",
        "unknown key (did you mean 'epochs'?)",
    ),
    "unknown key in an inline table": (
        "grace_epochs = 2",
        "grace_epoch = 2",
        "grace_epoch",
        "search.scheduler.asha.grace_epoch",
        "did you mean 'grace_epochs'?",
    ),
    "unknown key in an array of tables": (
        'goal = "maximize"',
        'gaol = "maximize"',
        "gaol",
        "objectives[0].gaol",
        "did you mean 'goal'?",
    ),
    "unknown key in the second arm": (
        'method = "lsq"',
        'method = "lsq"\nparameter = {}',
        "parameter = {}",
        "arms[2].parameter",
        "did you mean 'parameters'?",
    ),
    "unknown key in a dimension": (
        "keep_probability = { uniform",
        "keep_probability = { unifrom",
        "unifrom",
        "arms[1].space.keep_probability.unifrom",
        "did you mean 'uniform'?",
    ),
    "unknown key named like a type": (
        "epochs = 4",
        "epochs = 4\nint = 1",
        "int =",
        "task.int",
        "unknown key",
    ),
    "unknown key named like a type at the top": (
        "schema = 1",
        "schema = 1\nstr = 1",
        "str =",
        "str",
        "unknown key",
    ),
    "unknown key with brackets": (
        "schema = 1",
        'schema = 1\n"list[int]" = 1',
        "list[int]",
        '"list[int]"',
        "unknown key",
    ),
    "unknown key with a line break": (
        "schema = 1",
        'schema = 1\n"a\\nb" = 1',
        "a\\nb",
        '"a\\nb"',
        "unknown key",
    ),
    "a key that is missing": ("epochs = 4\n", "", "[task]", "task.epochs", "required and missing"),
    "no objective": (
        "[[objectives]]",
        "[[objective]]",
        "[[objective]]",
        "objective",
        "did you mean",
    ),
    "text for a number": (
        "epochs = 4",
        'epochs = "4"',
        'epochs = "4"',
        "task.epochs",
        "expected integer, got '4'",
    ),
    "a fraction for a whole number": (
        "epochs = 4",
        "epochs = 4.5",
        "epochs = 4.5",
        "task.epochs",
        "expected integer, got 4.5",
    ),
    "true for a number": (
        "epochs = 4",
        "epochs = true",
        "epochs = true",
        "task.epochs",
        "expected integer, got True",
    ),
    "zero epochs": (
        "epochs = 4",
        "epochs = 0",
        "epochs = 0",
        "task.epochs",
        "greater than or equal to 1",
    ),
    "a number for text": (
        'expects = "yes"',
        "expects = 1",
        "expects = 1",
        "expects",
        "expected string, got 1",
    ),
    "a date for text": (
        'expects = "yes"',
        "expects = 1979-05-27",
        "1979",
        "expects",
        "expected string",
    ),
    "a huge number": (
        "epochs = 4",
        "epochs = 99999999999",
        "9999",
        "task.epochs",
        "less than or equal to 2147483647",
    ),
    "a number beyond TOML": (
        "epochs = 4",
        "epochs = 0x" + "f" * 5000,
        "0xfff",
        "task.epochs",
        "64 bits",
    ),
    "a number of too many digits": (
        "seed = 0",
        "seed = 1" + "0" * 400,
        "seed = 1",
        "search.seed",
        "64 bits",
    ),
    "a wrong schema": ("schema = 1", "schema = 2", "schema = 2", "schema", "expected 1, got 2"),
    "a name with spaces": (
        'name = "whole"',
        'name = "two words"',
        "two words",
        "name",
        "match pattern",
    ),
    "a name in another script": (
        'name = "lsq"',
        'name = "\u91cf"',
        "\u91cf",
        "arms[2].name",
        "match pattern",
    ),
    "an empty name": ('name = "lsq"', 'name = ""', 'name = ""', "arms[2].name", "match pattern"),
    "a very long name": ('name = "whole"', f'name = "{"x" * 101}"', "xxx", "name", "at most 100"),
    "no bits": ('bits = [2, 3, "w4a4"]', "bits = []", "bits = []", "task.bits", "at least 1 item"),
    "bits twice": (
        'bits = [2, 3, "w4a4"]',
        'bits = [3, "w3a3"]',
        "w3a3",
        "task.bits",
        "stands here twice",
    ),
    "bits that are none": (
        '"w4a4"]',
        '"w4"]',
        '"w4"',
        "task.bits[2]",
        "expected bits such as 4 or 'w4a4', got 'w4'",
    ),
    "bits of 0": ('"w4a4"]', "0]", "3, 0]", "task.bits[2]", "between 1 and 32"),
    "bits of the wrong type": (
        '"w4a4"]',
        "4.0]",
        "4.0",
        "task.bits[2]",
        "expected integer or string, got 4.0",
    ),
    "bits a method cannot do": (
        'bits = [2, 3, "w4a4"]',
        "bits = [2, 3, 7]",
        "3, 7]",
        "task.bits",
        "cpq_dropbits (arm cpq) cannot do w7a7: it does 2, 3, 4, 5, 6, 8-bit weights",
    ),
    "an unknown data set": (
        "fashion-mnist-6k",
        "fashion-mnist-7k",
        "-7k",
        "task.data",
        "did you mean 'fashion-mnist-6k'?",
    ),
    "an unknown model": (
        '"small-cnn"',
        '"small-cm"',
        "small-cm",
        "task.model",
        "did you mean 'small-cnn'?",
    ),
    "an unknown method": (
        'method = "lsq"',
        'method = "lqs"',
        "lqs",
        "arms[2].method",
        "did you mean 'lsq'?",
    ),
    "an unknown method of the start": (
        'method = "fp32"',
        'method = "fp23"',
        "fp23",
        "task.start.method",
        "did you mean 'fp32'?",
    ),
    "a start that needs a start": (
        '{ method = "fp32", epochs = 8, parameters = { learning_rate = 0.02 } }',
        '{ method = "ptq", epochs = 8 }',
        "start =",
        "task.start.method",
        "needs a trained network itself",
    ),
    "an unknown trainer": (
        "batch_size = 64",
        'trainer = "imgae"',
        "imgae",
        "task.trainer",
        "did you mean 'image'?",
    ),
    "a precision that there is not": (
        "batch_size = 64",
        'precision = "fp16"',
        "precision",
        "task.precision",
        "expected 'fp32' or 'bf16', got 'fp16'",
    ),
    "a backend that there is not": (
        "batch_size = 64",
        'backend = "jit"',
        "backend",
        "task.backend",
        "expected 'eager', 'compiled' or 'auto', got 'jit'",
    ),
    "a memory format that there is not": (
        "batch_size = 64",
        'memory_format = "nhwc"',
        "memory_format",
        "task.memory_format",
        "expected 'channels_last' or 'contiguous', got 'nhwc'",
    ),
    "micro-batches that do not fill a batch": (
        "batch_size = 64",
        "batch_size = 64\nmicro_batch_size = 24",
        "micro_batch_size",
        "task.micro_batch_size",
        "micro_batch_size must divide the batch of 64, got 24",
    ),
    "an average that never moves": (
        "batch_size = 64",
        "ema_decay = 1.0",
        "ema_decay",
        "task.ema_decay",
        "less than 1, got 1.0",
    ),
    "labels of which nothing is left": (
        "batch_size = 64",
        "label_smoothing = 1.0",
        "label_smoothing",
        "task.label_smoothing",
        "less than 1, got 1.0",
    ),
    "a warm-up as long as the training": (
        "batch_size = 64",
        "warmup_epochs = 4",
        "warmup_epochs",
        "task.warmup_epochs",
        "expected fewer than the 4 epochs of the shortest training, got 4",
    ),
    "an option that a method refuses": (
        'batch_size = 64\nconvention = "whole_ends8"\n\n[[arms]]\nname = "ptq"\nmethod = "ptq"\n'
        "parameters = { activation_bits = 8 }",
        'ema_decay = 0.9\n\n[[arms]]\nname = "ptq"\nmethod = "alq"',
        "ema_decay",
        "task.ema_decay",
        "alq cannot be trained with ema_decay = 0.9: its weights are sums of bases",
    ),
    "a teacher that there is not": (
        'start = { method = "fp32", epochs = 8, parameters = { learning_rate = 0.02 } }\n'
        'epochs = 4\nbits = [2, 3, "w4a4"]\nbatch_size = 64\nconvention = "whole_ends8"\n\n'
        '[[arms]]\nname = "ptq"\nmethod = "ptq"\nparameters = { activation_bits = 8 }',
        'epochs = 4\nbits = [2, 3, "w4a4"]\n\n[[arms]]\nname = "ptq"\nmethod = "bit_mixer"\n'
        'parameters = { teacher = "fp32" }',
        'method = "bit_mixer"',
        "arms[0].method",
        "teacher = fp32 needs a trained network: add task.start (method bit_mixer)",
    ),
    "a method without its start": (
        'start = { method = "fp32", epochs = 8, parameters = { learning_rate = 0.02 } }\n',
        "",
        'method = "ptq"',
        "arms[0].method",
        "needs a trained network: add task.start",
    ),
    "an arm named twice": (
        'name = "cpq"',
        'name = "lsq"',
        '"lsq"\nmethod = "lsq"',
        "arms[2].name",
        "two arms are named 'lsq'",
    ),
    "an unknown parameter": (
        "tau = 0.5",
        "tua = 0.5",
        "tua",
        "arms[1].parameters.tua",
        "did you mean 'tau'?",
    ),
    "a parameter out of its range": (
        "tau = 0.5",
        "tau = 5",
        "tau = 5",
        "arms[1].parameters.tau",
        "tau must be a number in [0.05, 2], got 5 (method cpq_dropbits)",
    ),
    "a parameter of the wrong type": (
        "tau = 0.5",
        "tau = [1]",
        "tau = [1]",
        "arms[1].parameters.tau",
        "expected boolean or integer or number or string, got [1]",
    ),
    "a parameter that is no number": (
        "tau = 0.5",
        "tau = nan",
        "tau = nan",
        "arms[1].parameters.tau",
        "got nan",
    ),
    "a parameter that is infinite": (
        "tau = 0.5",
        "tau = -inf",
        "tau = -inf",
        "arms[1].parameters.tau",
        "got -inf",
    ),
    "true for a parameter": (
        "tau = 0.5",
        "tau = true",
        "tau = true",
        "arms[1].parameters.tau",
        "got True",
    ),
    "a parameter of the start out of range": (
        "learning_rate = 0.02",
        "learning_rate = 99",
        "= 99",
        "task.start.parameters.learning_rate",
        "[1e-06, 10]",
    ),
    "a searched parameter that is unknown": (
        "keep_probability = {",
        "keep_probabilty = {",
        "keep_probabilty",
        "arms[1].space.keep_probabilty",
        "did you mean 'keep_probability'?",
    ),
    "a searched value out of its range": (
        "[0.7, 0.99]",
        "[0.7, 1.5]",
        "1.5",
        "arms[1].space.keep_probability",
        "got 1.5 (method cpq_dropbits)",
    ),
    "a searched choice that is unknown": (
        '["off", "bitwise", "endpoints"] }\nkeep',
        '["off", "bitwize"] }\nkeep',
        "bitwize",
        "arms[1].space.sharing",
        "did you mean 'bitwise'?",
    ),
    "a parameter searched and fixed": (
        "tau = 0.5",
        "learning_rate = 0.5",
        "learning_rate = { log_uniform = [5e-3",
        "arms[1].space.learning_rate",
        "searched here and fixed",
    ),
    "a range upside down": (
        "[0.7, 0.99]",
        "[0.99, 0.7]",
        "0.99, 0.7",
        "arms[1].space.keep_probability.uniform",
        "low < high",
    ),
    "a range that is no number": (
        "[0.7, 0.99]",
        "[nan, 0.7]",
        "nan",
        "arms[1].space.keep_probability.uniform",
        "low < high",
    ),
    "a range that is infinite": (
        "[0.7, 0.99]",
        "[0.7, inf]",
        "inf]",
        "arms[1].space.keep_probability.uniform",
        "low < high",
    ),
    "a range of one number": (
        "[0.7, 0.99]",
        "[0.7]",
        "[0.7]",
        "arms[1].space.keep_probability.uniform",
        "at least 2 items",
    ),
    "a logarithmic range from 0": (
        "[5e-3, 1e-1]",
        "[0, 1e-1]",
        "[0, 1e-1]",
        "arms[1].space.learning_rate.log_uniform",
        "begins above 0",
    ),
    "a dimension of two kinds": (
        "{ uniform = [0.7, 0.99],",
        "{ uniform = [0.7, 0.99], choice = [1],",
        "choice = [1]",
        "arms[1].space.keep_probability",
        "exactly one of",
    ),
    "a dimension of no kind": (
        "{ uniform = [0.7, 0.99],",
        "{",
        "keep_probability",
        "arms[1].space.keep_probability",
        "exactly one of",
    ),
    "a choice twice": (
        '["off", "bitwise", "endpoints"] }\nkeep',
        '["off", "off"] }\nkeep',
        '"off", "off"',
        "arms[1].space.sharing.choice",
        "none twice",
    ),
    "a choice of nothing": (
        '["off", "bitwise", "endpoints"] }\nkeep',
        "[] }\nkeep",
        "[] }",
        "arms[1].space.sharing.choice",
        "at least 1 item",
    ),
    "a condition on an unknown parameter": (
        "when = { sharing",
        "when = { shraing",
        "shraing",
        "arms[1].space.keep_probability.when.shraing",
        "no other parameter 'shraing' of this arm (did you mean 'sharing'?)",
    ),
    "a condition on itself": (
        "when = { sharing",
        "when = { keep_probability",
        "when = { keep",
        "arms[1].space.keep_probability.when.keep_probability",
        "no other parameter",
    ),
    "a condition on an unknown value": (
        'when = { sharing = ["bitwise", "endpoints"]',
        'when = { sharing = "bitwize"',
        "bitwize",
        "arms[1].space.keep_probability.when.sharing",
        "did you mean 'bitwise'?",
    ),
    "a condition on a later parameter": (
        'sharing = { choice = ["off", "bitwise", "endpoints"] }\n',
        "",
        "keep_probability",
        "arms[1].space.keep_probability.when.sharing",
        "no other parameter 'sharing'",
    ),
    "searched bits": (
        LSQ_SPACE,
        'method = "lsq"\nspace = { activation_bits = { choice = ["tied", 8] } }',
        "activation_bits = {",
        "arms[2].space.activation_bits",
        "give each value an arm of its own",
    ),
    "a range for a grid": (
        'sampler = "tpe"',
        'sampler = "grid"',
        "keep_probability",
        "arms[1].space.keep_probability",
        "a grid needs { choice = [...] }",
    ),
    "an unknown sampler": (
        'sampler = "tpe"',
        'sampler = "best"',
        "best",
        "search.sampler",
        "'cmaes', 'nsga2', 'nsga3' or 'qmc' or a table, got 'best'",
    ),
    "a negative seed": (
        "seeds = [1000]",
        "seeds = [-1]",
        "[-1]",
        "search.seeds[0]",
        "greater than or equal to 0",
    ),
    "a seed twice": (
        "seeds = [0, 1]",
        "seeds = [0, 0]",
        "[0, 0]",
        "confirm.seeds",
        "a seed stands here twice",
    ),
    "no seeds": ("seeds = [0, 1]", "seeds = []", "seeds = []", "confirm.seeds", "at least 1 item"),
    "overlapping seeds": (
        "seeds = [1000]",
        "seeds = [1]",
        "seeds = [0, 1]",
        "confirm.seeds",
        "seeds 1 are also in search.seeds",
    ),
    "a grace period over the epochs": (
        "grace_epochs = 2",
        "grace_epochs = 4",
        "grace_epochs",
        "search.scheduler.asha.grace_epochs",
        "fewer than task.epochs = 4",
    ),
    "an objective that no arm can measure": (
        'at = ["w3a3"]\n',
        'at = ["w5a5"]\n',
        "w5a5",
        "objectives[0].at",
        "arm 'cpq' can never measure w5a5: it is measured at w2a2, w3a3, w4a4",
    ),
    "an objective an arm with fixed activations can never measure": (
        "tau = 0.5",
        "activation_bits = 8",
        'at = ["w3a3"]',
        "objectives[0].at",
        "arm 'cpq' can never measure w3a3: it is measured at w2a8, w3a8, w4a8",
    ),
    "an objective twice at the same bits": (
        'at = ["w3a3"]\n',
        'at = ["w3a3", 3]\n',
        "w3a3",
        "objectives[0].at",
        "stands here twice",
    ),
    "an objective nowhere": (
        'at = ["w3a3"]\n',
        'at = "some"\n',
        '"some"',
        "objectives[0].at",
        "'each' or 'all'",
    ),
    "a comparison of an unknown arm": (
        'against = "lsq"',
        'against = "lqs"',
        "lqs",
        "comparisons[0].against",
        "no arm is named 'lqs' (did you mean 'lsq'?); arms: ptq, cpq, lsq",
    ),
    "a comparison with itself": (
        'against = "lsq"',
        'against = "cpq"',
        "against",
        "comparisons[0].against",
        "against itself",
    ),
    "a comparison at bits that are not measured": (
        'at = "w3a3"',
        'at = "w8a8"',
        "w8a8",
        "comparisons[0].at",
        "can never measure w8a8",
    ),
    "a comparison without seeds to confirm on": (
        "[confirm]\nbest_per_arm = 1\nseeds = [0, 1]\n",
        "",
        "[[comparisons]]",
        "comparisons[0]",
        "needs [confirm]",
    ),
    "a space without a search": ("[search]", "[resaerch]", "resaerch", "resaerch", "unknown key"),
    "a fraction of a worker": (
        "cpus_per_worker = 1",
        "cpus_per_worker = 0",
        "cpus_per",
        "resources.cpus_per_worker",
        "greater than or equal to 1",
    ),
    "one GPU and a half": (
        "cpus_per_worker = 1",
        "gpus_per_worker = 1.5",
        "gpus_per",
        "resources.gpus_per_worker",
        "a fraction up to 1 or a whole number",
    ),
    "a resource that has a key of its own": (
        "cpus_per_worker = 1",
        "custom_per_worker = { GPU = 1.0 }",
        "custom_per",
        "resources.custom_per_worker.GPU",
        "a key of its own",
    ),
    "an unknown placement": (
        "cpus_per_worker = 1",
        'placement = "anywhere"',
        "placement",
        "resources.placement",
        "expected 'pack'",
    ),
    "a batch that the workers cannot share": (
        "cpus_per_worker = 1",
        "workers_per_trial = 3",
        "workers_per",
        "resources.workers_per_trial",
        "cannot be shared equally by 3",
    ),
    "infinite minutes": (
        "trial_minutes = 10",
        "trial_minutes = inf",
        "inf",
        "budget.trial_minutes",
        "less than or equal to 525600",
    ),
    "no minutes": (
        "trial_minutes = 10",
        "trial_minutes = 0",
        "minutes = 0",
        "budget.trial_minutes",
        "greater than 0",
    ),
    "a table for an array of tables": (
        "[[comparisons]]",
        "[comparisons]",
        "[comparisons]",
        "comparisons",
        "expected list",
    ),
    "a value for a table": (
        "[budget]\ntrial_minutes = 10\nretries = 2",
        "[budgets]",
        "[budgets]",
        "budgets",
        "did you mean 'budget'?",
    ),
}


def message_of(text: str, folder: Path, *overrides: str) -> str:
    """The complaint about a text."""
    with pytest.raises(InputError) as raised:
        read(text, folder, *overrides)
    return str(raised.value)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_file_line_key_and_what_was_expected(name: str, tmp_path: Path) -> None:
    old, new, place, key, expected = MISTAKES[name]
    assert old in WHOLE, "the mistake must change the file"
    text = WHOLE.replace(old, new)
    message = message_of(text, tmp_path)
    start = f"{tmp_path / 'sweep.toml'}:{line_with(text, place)}: {key}: "

    assert message.startswith(start), f"expected {start}, got {message}"
    assert expected in message.removeprefix(start)
    assert "\n" not in message


def test_compiled_kernels_without_a_compiler_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = WHOLE.replace("batch_size = 64", 'backend = "compiled"')
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    message = message_of(text, tmp_path)

    assert f":{line_with(text, 'backend')}: task.backend: " in message, message
    assert "there is no 'no-such-compiler'" in message and "take eager" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("batch_size = 64", "batch_size = 64\nema_decay = 0.9", "with ema_decay it is not"),
        (
            "batch_size = 64",
            'batch_size = 64\nprecision = "bf16"',
            "with precision it is not proved",
        ),
        (
            LSQ_SPACE,
            'method = "cpq_dropbits"\nparameters = { task = "hetero", sharing = "bitwise" }',
            "has learned bits",
        ),
        ('method = "lsq"', 'method = "alq"', "alq cannot be trained with workers_per_trial = 2"),
    ],
)
def test_what_is_not_proved_over_several_workers_is_refused(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    text = WHOLE[: WHOLE.index("[[comparisons]]")] + WHOLE[WHOLE.index("[resources]") :]
    text = text.replace("cpus_per_worker = 1", "workers_per_trial = 2").replace(old, new)
    message = message_of(text, tmp_path)

    assert ": resources.workers_per_trial: " in message, message
    assert expected in message and "\n" not in message


def test_a_missing_objective_is_said_to_be_missing(tmp_path: Path) -> None:
    text = re.sub(r"\[\[objectives\]\]\n(.+\n)+", "", WHOLE)

    assert "objectives: this key is required and missing" in message_of(text, tmp_path)


def test_a_file_without_arms_misses_them(tmp_path: Path) -> None:
    text = WHOLE[: WHOLE.index("[[arms]]")] + WHOLE[WHOLE.index("[search]") :]

    assert "arms: this key is required and missing" in message_of(text, tmp_path)


def test_a_condition_on_a_later_parameter_says_to_put_it_first(tmp_path: Path) -> None:
    sharing = 'sharing = { choice = ["off", "bitwise", "endpoints"] }\n'
    text = WHOLE.replace(sharing, "").replace("[search]", sharing + "[search]", 1)
    text = text.replace('method = "lsq"', 'method = "cpq_dropbits"').replace(
        "learning_rate = { log_uniform = [1e-3, 1e-1] }",
        'keep_probability = { uniform = [0.7, 0.99], when = { sharing = "bitwise" } }',
    )
    text = text.replace(', when = { sharing = ["bitwise", "endpoints"] }', "")

    assert "put 'sharing' before 'keep_probability'" in message_of(text, tmp_path)


def test_a_space_without_a_search_table_is_refused(tmp_path: Path) -> None:
    text = re.sub(r"\[search\]\n(.+\n)+", "", WHOLE)

    assert "add [search] with configurations_per_arm" in message_of(text, tmp_path)


def test_several_mistakes_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    text = WHOLE.replace("epochs = 4", "epoch = 4").replace("retries", "retry")
    message = message_of(text, tmp_path)

    assert "task.epoch: unknown key" in message and message.endswith("(1 more)")


def test_text_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    message = message_of("schema = 1\nname = \n", tmp_path)

    assert "sweep.toml: not valid TOML" in message and "line 2" in message


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = 1" + "0" * 5000, "a = 1\na = 2"])
def test_toml_that_the_parser_gives_up_on_is_an_input_error(text: str, tmp_path: Path) -> None:
    message = message_of(text, tmp_path)

    assert "not valid TOML" in message and "\n" not in message


def test_an_empty_file_misses_its_keys(tmp_path: Path) -> None:
    assert "sweep.toml:1: schema: this key is required and missing" in message_of("", tmp_path)


def test_a_file_that_is_missing_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml: cannot be read: No such file"):
        read_sweep(tmp_path / "absent.toml", DECLARATIONS)


def test_a_folder_is_no_sweep_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_sweep(tmp_path, DECLARATIONS)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff", b"\xff\xfes\x00", b"\x00" * 9])
def test_a_binary_file_is_an_input_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"binary\.toml: (cannot be read|not valid TOML)"):
        read_sweep(path, DECLARATIONS)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("task.epochs", "--set task.epochs: expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("task.epoch=3", "task.epoch: unknown key (did you mean 'epochs'?)"),
        ("task.epochs=three", "task.epochs: expected integer, got 'three'"),
        ("task.epochs=", "task.epochs: expected integer, got ''"),
        ("name.first=3", "--set name.first=3: there is no place 'name.first'"),
        ("arms.9.name=x", "there is no place 'arms.9.name'"),
        ("arms.first.name=x", "there is no place 'arms.first.name'"),
        ("a..b=3", "unknown key"),
        ("task.bits=[2, 2]", "task.bits: a bit-width stands here twice"),
        ("arms.2.name=cpq", "arms[2].name: two arms are named 'cpq'"),
        ("task.epochs=" + "[" * 100_000, "task.epochs: expected integer"),
    ],
)
def test_a_mistaken_override_is_an_input_error(
    override: str, expected: str, tmp_path: Path
) -> None:
    message = message_of(WHOLE, tmp_path, override)

    assert expected in message and "\n" not in message
