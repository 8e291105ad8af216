"""Every mistake in a sweep file is one line: file, line, key, what was expected, nearest name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.sweep_mistakes.arms import ARMS
from tests.bitsweep_suite.sweep_mistakes.stages import STAGES
from tests.bitsweep_suite.sweep_mistakes.task import TASK
from tests.bitsweep_suite.sweep_texts import DECLARATIONS, LSQ_SPACE, WHOLE, line_with, read

from bitsweep.errors import InputError
from bitsweep.specfile import read_sweep

MISTAKES = TASK | ARMS | STAGES


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


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        (
            LSQ_SPACE,
            'method = "abn"\nparameters = { policy_share = 0.1 }',
            "arms[2].parameters.policy_share",
            "has no effect: it needs policy = 'double_dqn' or 'reinforce', which is 'off' here",
        ),
        (
            LSQ_SPACE,
            'method = "cpq_dropbits"\nparameters = { sharing = "off", keep_probability = 0.8 }',
            "arms[2].parameters.keep_probability",
            "has no effect: it needs sharing = ",
        ),
        (
            'bits = [2, 3, "w4a4"]',
            "bits = [3]",
            "arms[2].method",
            "policy = reinforce chooses between widths, and there is only w3a3",
        ),
    ],
)
def test_what_would_be_dropped_in_silence_is_refused(
    old: str, new: str, key: str, expected: str, tmp_path: Path
) -> None:
    with_policy = WHOLE.replace(LSQ_SPACE, 'method = "abn"\nparameters = { policy = "reinforce" }')
    text = (WHOLE if old == LSQ_SPACE else with_policy).replace(old, new)
    message = message_of(text, tmp_path)

    assert f": {key}: " in message, message
    assert expected in message and "\n" not in message


def test_a_parameter_that_a_searched_value_needs_may_be_fixed(tmp_path: Path) -> None:
    searched = (
        'method = "abn"\nparameters = { policy_share = 0.2 }\n[arms.space]\n'
        'policy = { choice = ["off", "double_dqn"] }'
    )
    sweep = read(WHOLE.replace(LSQ_SPACE, searched), tmp_path)

    assert sweep.arms[2].parameters == {"policy_share": 0.2}


def test_too_few_images_for_a_policy_are_told_with_their_number(tmp_path: Path) -> None:
    name = "fashion-mnist-6k"
    data = replace(DECLARATIONS.data_set(name), sizes={"train": 60, "validation": 9, "test": 9})
    declared = replace(DECLARATIONS, data={**DECLARATIONS.data, name: data})
    path = tmp_path / "sweep.toml"
    path.write_text(
        WHOLE.replace(LSQ_SPACE, 'method = "abn"\nparameters = { policy = "double_dqn" }')
    )
    with pytest.raises(InputError) as raised:
        read_sweep(path, declared)

    assert "policy_share = 0.1 of 60 training images holds 6" in str(raised.value)
    assert "at least 8 are needed" in str(raised.value)


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


def test_of_several_mistakes_the_first_is_told_and_all_are_named(tmp_path: Path) -> None:
    text = WHOLE.replace("epochs = 4", "epoch = 4").replace("retries", "retry")
    message = message_of(text, tmp_path)

    assert "task.epoch: unknown key" in message and message.endswith("(1 more: budget.retry)")


def test_every_key_that_is_missing_is_named(tmp_path: Path) -> None:
    message = message_of('schema = 1\nname = "short"\n', tmp_path)

    assert "question: this key is required and missing (6 more: " in message
    assert message.endswith("reproduces, expects, cost, task, arms, objectives)")


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
        ("task.bits=[2, 2]", "task.bits: w2a2 stands here twice"),
        ("arms.2.name=cpq", "arms[2].name: two arms are named 'cpq'"),
        ("task.epochs=" + "[" * 100_000, "task.epochs: expected integer"),
    ],
)
def test_a_mistaken_override_is_an_input_error(
    override: str, expected: str, tmp_path: Path
) -> None:
    message = message_of(WHOLE, tmp_path, override)

    assert expected in message and "\n" not in message


@pytest.mark.parametrize("value", ["1e300", "1e-300", "inf", "nan", "-1.0"])
@pytest.mark.parametrize(
    "key", ["memory_gib_per_worker", "gpus_per_worker", "custom_per_worker.licence"]
)
def test_amounts_that_no_machine_has_are_refused(key: str, value: str, tmp_path: Path) -> None:
    message = message_of(WHOLE, tmp_path, f"resources.{key}={value}")

    assert f"resources.{key}: expected" in message and "\n" not in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("resources.workers_per_trial=2147483647", "less than or equal to 10000"),
        ("resources.max_concurrent=2147483647", "less than or equal to 10000"),
        ("task.epochs=1000000000000000000", "less than or equal to 2147483647"),
        ("resources.priority=1001", "less than or equal to 1000"),
        ("budget.trial_minutes=1e300", "less than or equal to 525600"),
    ],
)
def test_numbers_beyond_what_can_be_run_are_refused(
    override: str, expected: str, tmp_path: Path
) -> None:
    key = override.partition("=")[0]
    message = message_of(WHOLE, tmp_path, override)

    assert f"{key}: expected" in message and expected in message


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ("no_such_module:f", "cannot be loaded: No module named 'no_such_module'"),
        ("antigravityx.y:", "'antigravityx.y:': expected module:function"),
        ("os:getcwd", "'os:getcwd': expected module:function, a function of 2 arguments"),
        ("os:sep", "'os:sep': expected module:function, a function of 2 arguments"),
        ("bitsweep.testing:toy_trian", "cannot be loaded: module 'bitsweep.testing' has no"),
    ],
)
def test_a_function_that_is_no_trainer_is_refused(
    trainer: str, expected: str, tmp_path: Path
) -> None:
    message = message_of(WHOLE, tmp_path, f'task.trainer="{trainer}"')

    assert ": task.trainer: " in message and expected in message and "\n" not in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('question="a\\u0000b"', "question: expected a text without NUL characters"),
        ('arms={name="a",method="lsq"}', "write [[arms]] in place of [arms]"),
        ("confirm.seeds=[]", "confirm.seeds: expected at least 1 item, got []"),
        ("confirm.seeds=[0,7,7]", "confirm.seeds: seed 7 stands here twice"),
        ("budget.trial_minutes=nan", "budget.trial_minutes: expected a finite number, got nan"),
        ("task.ema_decay=nan", "task.ema_decay: expected a finite number, got nan"),
    ],
)
def test_what_is_wrong_is_said_in_our_words(override: str, expected: str, tmp_path: Path) -> None:
    assert expected in message_of(WHOLE, tmp_path, override)
