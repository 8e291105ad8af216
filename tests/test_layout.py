"""Promises that rot: the layout, the exports, light imports, sweep files, documented commands."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("platform", "trainers", "dashboards")
PACKAGES = ("bitsweep", "bitsweep_trainers", "bitsweep_dashboards")
HEAVY = [
    "torch",
    "ray",
    "optuna",
    "mlflow",
    "sqlalchemy",
    "pydantic",
    "numpy",
    "pandas",
    "typer",
    "rich",
    "scipy",
]
MAKE_TARGETS = ["demo", "check", "test", "test-real", "bench", "docs", "system-packages", "clean"]
METHOD_CARDS = sorted((ROOT / "docs" / "methods").glob("*.md"))
SWEEP_FILES = sorted((ROOT / "sweeps").glob("*.toml"))
EXTENDED = ("README.md", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml", ".ci/run")


def python(code: str, *, path: Path = ROOT) -> str:
    """What a fresh interpreter prints, started in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(command: str) -> set[str]:
    """The heavy packages that a bitsweep command loads."""
    code = (
        "import io, sys, contextlib\n"
        f"sys.argv = {['bitsweep', *command.split()]!r}\n"
        "from bitsweep.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as error:\n"
        "        assert not error.code, error.code\n"
        f"print(*[one for one in {HEAVY!r} if one in sys.modules])"
    )
    return set(python(code).split())


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_a_source_root_is_no_package(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


def test_there_is_no_init_file_among_the_tests() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_folder_of_the_tests_is_named_platform() -> None:
    assert [path for path in (ROOT / "tests").rglob("platform") if path.is_dir()] == []


def test_platform_is_that_of_the_standard_library_even_at_the_root() -> None:
    assert python("import platform; print(platform.python_version())") == (
        ".".join(map(str, sys.version_info[:3]))
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_lies_in_its_source_root(package: str) -> None:
    where = python(f"import {package}; print({package}.__file__)", path=Path("/"))

    assert Path(where).is_relative_to(ROOT) == (ROOT / SOURCE_ROOTS[0]).exists()


@pytest.mark.parametrize("name", EXTENDED)
def test_the_files_that_a_newcomer_looks_for_exist(name: str) -> None:
    assert (ROOT / name).is_file()


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert python("import bitsweep; print(bitsweep.__version__)") == project["version"]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("bitsweep.trainers", "image"),
        ("bitsweep.group_trainers", "image"),
        ("bitsweep.data", "image"),
        ("bitsweep.exporters", "image"),
        ("bitsweep.declarations", "methods"),
        ("bitsweep.declarations", "models"),
        ("bitsweep.declarations", "data"),
        ("console_scripts", "bitsweep"),
        ("console_scripts", "bitsweep-dashboard"),
    ],
)
def test_each_entry_point_is_declared_and_its_module_exists(group: str, name: str) -> None:
    (found,) = entry_points(group=group, name=name)
    module = Path(*found.module.split("."))
    places = [ROOT / root / module for root in SOURCE_ROOTS]

    assert any(p.with_suffix(".py").is_file() or (p / "__init__.py").is_file() for p in places)


def test_importing_bitsweep_loads_nothing_heavy() -> None:
    code = f"import sys, bitsweep; print(*[one for one in {HEAVY!r} if one in sys.modules])"

    assert python(code) == ""


@pytest.mark.parametrize(
    "module",
    ["bits", "cost", "measurement", "space", "trial", "sweep", "trainer", "plan", "testing"],
)
def test_the_vocabulary_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, bitsweep.{module}; print(*[n for n in {HEAVY!r} if n in sys.modules])"

    assert python(code) == ""


@pytest.mark.parametrize(
    "command", ["--help", "validate sweeps/quickstart.toml", "methods", "schema"]
)
def test_a_light_command_loads_nothing_of_science_or_databases(command: str) -> None:
    assert loaded_by(command) <= {"typer", "rich", "pydantic"}


def test_a_dry_run_loads_neither_torch_nor_ray_nor_mlflow(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    loaded = loaded_by(f"run sweeps/quickstart.toml --dry-run --store {store}")

    assert loaded.isdisjoint({"torch", "ray", "mlflow", "optuna", "numpy"})


@pytest.mark.parametrize("target", MAKE_TARGETS)
def test_the_makefile_has_each_target(target: str) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert re.search(rf"^{re.escape(target)}:", text, re.MULTILINE)


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.name)
def test_a_sweep_file_begins_with_its_command_and_states_its_question(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    document = tomllib.loads(text)

    assert text.splitlines()[0] == f"# bitsweep run sweeps/{path.name}"
    assert path.stem.replace("_", "-") == document["name"]
    assert list(document)[:6] == ["schema", "name", "question", "reproduces", "expects", "cost"]
    assert all(document[key] for key in ("question", "reproduces", "expects", "cost"))


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.name)
def test_a_sweep_file_is_valid(path: Path) -> None:
    from bitsweep.specfile import read_sweep
    from bitsweep.trainer import load_declarations

    assert read_sweep(path, load_declarations()).name == path.stem.replace("_", "-")


def test_every_method_is_compared_in_a_sweep_that_asks_for_it() -> None:
    """In a declared comparison, so that a table answers; `baselines` alone would rank defaults."""
    from bitsweep.specfile import read_sweep
    from bitsweep.trainer import load_declarations

    declarations = load_declarations()
    compared = set()
    for path in SWEEP_FILES:
        sweep = read_sweep(path, declarations)
        named = {name for one in sweep.comparisons for name in (one.arm, one.against)}
        compared |= {sweep.arm(name).method for name in named}

    # FP32 is in every table.
    assert compared == set(declarations.methods) - {"fp32"}


@pytest.mark.parametrize("path", METHOD_CARDS, ids=lambda path: path.stem)
def test_a_method_card_has_all_its_parts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    parts = set(re.findall(r"^## (.+)$", text, re.MULTILINE))

    assert {"The idea", "Equations", "Parameters", "Cost", "How to cite"} <= parts
    assert any(one.startswith("What is not from") for one in parts)


def test_every_method_has_a_card_and_every_card_a_method() -> None:
    from bitsweep.trainer import load_declarations

    assert {path.stem for path in METHOD_CARDS} == set(load_declarations().methods)


def test_the_index_of_sweeps_names_each_file_and_no_other() -> None:
    index = (ROOT / "sweeps" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\(([\w.-]+\.toml)\)", index))

    assert named == {path.name for path in SWEEP_FILES}


def test_every_module_says_what_it_holds() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for root in (*SOURCE_ROOTS, "tests", "benchmarks")
        for path in (ROOT / root).rglob("*.py")
        if "migrations/versions" not in str(path)
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]

    assert silent == []


def test_sources_are_plain_ascii_but_for_the_sign_of_a_spread() -> None:
    allowed = set("\u00b1")
    odd = [
        str(path.relative_to(ROOT))
        for root in (*SOURCE_ROOTS, "sweeps", "benchmarks")
        for path in (ROOT / root).rglob("*.*")
        if path.suffix in {".py", ".toml"}
        and any(ord(letter) > 126 and letter not in allowed for letter in path.read_text("utf-8"))
    ]

    assert odd == []
