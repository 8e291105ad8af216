"""The user guide against the program: its sweep file is valid and it names every key."""

import re
from pathlib import Path

import pytest

from bitsweep.errors import InputError
from bitsweep.specfile import json_schema, read_sweep
from bitsweep.trainer import load_declarations

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "user-guide.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "sweeps" / "quickstart.toml").read_text(encoding="utf-8")
# What turns the quickstart sweep into each of the guide's wrong files.
MISTAKES = {
    "typo.toml": ('sampler = "tpe"', 'sampller = "tpe"'),
    "seeds.toml": ("\nseeds = [0, 1]", "\nseeds = [0, 1000]"),
    "range.toml": ("uniform = [0.7, 0.99]", "uniform = [0.7, 1.5]"),
}


def known_keys() -> set[str]:
    """Every key that a sweep file may have."""
    schema = json_schema()
    tables = [schema, *schema["$defs"].values()]
    return {name for table in tables for name in table["properties"]}


def test_the_guides_sweep_file_is_valid(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    path = tmp_path / "guide.toml"
    path.write_text(found[1])

    assert read_sweep(path, load_declarations()).name == "lsq-rates"


def test_the_guide_names_every_key() -> None:
    words = set(re.findall(r"[a-z0-9_]+", GUIDE))

    assert known_keys() - words == set()


def test_the_tables_of_models_and_data_name_every_one_and_no_other() -> None:
    text = (ROOT / "docs" / "models-and-data.md").read_text(encoding="utf-8")
    models, data = text.split("\n## Data\n")
    declarations = load_declarations()

    assert set(re.findall(r"^\| `([a-z0-9-]+)`", models, re.M)) == set(declarations.models)
    assert set(re.findall(r"^\| `([a-z0-9-]+)`", data, re.M)) == set(declarations.data)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_guides_messages_are_what_is_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(QUICKSTART.replace(*MISTAKES[name]))
    shown = re.search(rf"error: ({re.escape(name)}:\d+: .*)", GUIDE)
    assert shown is not None

    with pytest.raises(InputError) as raised:
        read_sweep(path, load_declarations())

    # Line numbers move with the file; the rest is the promise.
    said = str(raised.value).removeprefix(f"{tmp_path}/")
    assert re.sub(r":\d+:", ":", said) == re.sub(r":\d+:", ":", shown[1])
