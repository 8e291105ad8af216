"""The container files against the repository; no engine is needed."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML ships no types

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
WORDS = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    lines = [one for one in DOCKERFILE.read_text().splitlines() if not one.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in pairs]


def copied() -> list[str]:
    """What is copied from the repository."""
    found = []
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            found += shlex.split(rest)[:-1]
    return found


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def scripts() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])


def test_the_dockerfile_has_known_instructions_alone() -> None:
    assert {word for word, _ in instructions()} <= WORDS


def test_what_the_image_copies_exists() -> None:
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_what_the_image_copies_is_not_ignored() -> None:
    ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()

    assert {one.removeprefix("!") for one in ignored if one.startswith("!")} == set(copied())


def test_the_image_does_not_run_as_root() -> None:
    assert ("USER", "bitsweep") in instructions()


def test_the_entry_points_are_scripts_of_the_package() -> None:
    image = dict(instructions())["ENTRYPOINT"]
    dashboard = services()["dashboard"]["entrypoint"][0]

    assert image == '["bitsweep"]'
    assert {"bitsweep", dashboard} <= scripts()


def test_each_port_is_bound_to_loopback() -> None:
    ports = [port for one in services().values() for port in one.get("ports", ())]

    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_the_file() -> None:
    text = COMPOSE.read_text()
    values = re.findall(r"(?:PASSWORD|TOKEN): (\S+)", text)

    assert values
    assert all(value.startswith("${") for value in values)
