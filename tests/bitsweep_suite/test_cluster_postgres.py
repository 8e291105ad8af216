"""A submitted job whose store is a PostgreSQL server that asks for a password."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.clusters import LoopbackCluster
from tests.postgres import NoPostgres, PostgresServer
from tests.real_parts import missing

pytestmark = pytest.mark.real
SECRET = "s3cret-w0rd"


def test_a_job_writes_to_postgresql_with_a_password_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        server = PostgresServer(password=SECRET)
    except NoPostgres as reason:
        missing(str(reason))
    plugin.install(tmp_path)
    passwords = tmp_path / "passwords"
    passwords.write_text(f"127.0.0.1:{server.port}:*:postgres:{SECRET}\n", encoding="utf-8")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    cluster = LoopbackCluster()
    try:
        settings: Any = {"RAY_API_SERVER_ADDRESS": cluster.address, **cluster.environment}
        words = ("submit", "toy.toml", "--store", server.url)
        places = ("--workspaces", str(tmp_path / "work"))
        done = plugin.bitsweep(tmp_path, *words, *places, timeout=300, **settings)
        sound = plugin.bitsweep(tmp_path, "store", "check", "--store", server.url, *places)
        with psycopg.connect(server.url) as connection:
            counted = "SELECT status, COUNT(*) FROM outcomes GROUP BY 1"
            ended = connection.execute(counted).fetchall()
    finally:
        cluster.close()
        server.close()

    assert done.returncode == 0, done.stderr + done.stdout
    assert "warning: a password" not in done.stderr and SECRET not in done.stdout + done.stderr
    assert [status for status, _ in ended] == ["finished"]
    assert sound.returncode == 0, sound.stdout
