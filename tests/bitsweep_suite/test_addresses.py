"""A cluster's address that nothing listens to is told at once, in one line."""

from pathlib import Path

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.clusters import free_ports


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_that_nothing_listens_to_is_told(tmp_path: Path, form: str) -> None:
    plugin.install(tmp_path)
    (tmp_path / "toy.toml").write_text(plugin.SWEEP, encoding="utf-8")
    address = form.format(*free_ports(1))
    done = plugin.bitsweep(tmp_path, "run", "toy.toml", "--address", address)

    assert done.returncode == 2
    assert done.stderr == (
        f"error: no Ray cluster answers at '{address}': [Errno 111] Connection refused; "
        "expected HOST:PORT of its head\n"
    )
