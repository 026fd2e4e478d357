"""Files that docker-compose.yml mounts, on servers without Docker: accounts, settings, pair."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from drc import cli
from drc.sandbox import Sandbox, SiteSpec
from tests.faults.fix_daemon import Daemon

pytestmark = pytest.mark.servers

CONF = Path(__file__).parents[2] / "conf" / "docker"
ROLES = ("SOURCE", "APPLIER", "OPERATOR")


def _settings(offset: int) -> list[str]:
    text = (CONF / "mysql.cnf").read_text()
    options = [f"--{key}={value}" for key, value in re.findall(r"^(\w+) += (\S+)", text, re.M)]
    return [*options, f"--auto-increment-offset={offset}"]


def _accounts_sql() -> str:
    """Return the SQL of accounts.sh, sourced as the image's entrypoint sources the script."""
    script = f"set -eo pipefail; docker_process_sql() {{ cat; }}; . {CONF / 'accounts.sh'}"
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    return done.stdout


def test_two_sites_as_the_containers_are(
    tmp_path: Path,
    kafka: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in (*(f"DRC_{role}_PASSWORD" for role in ROLES), "APP_PASSWORD", "DRC_WEB_TOKEN"):
        monkeypatch.setenv(name, f"of-the-test-0123456789-{name}")
    sites = ("shanghai", "beijing")
    specs = [SiteSpec(name, "9.7", _settings(n)) for n, name in enumerate(sites, 1)]
    with Sandbox(tmp_path / "box", die_with_parent=True) as box:
        box.up(specs)
        text = (CONF / "pair.toml").read_text().replace("/var/lib/drc", str(tmp_path))
        text = text.replace("kafka:9092", kafka.bootstrap[0])  # type: ignore[attr-defined]
        text = re.sub(r'listen = "[^"]*"', 'listen = ""', text)
        for name, site in box.sites.items():
            with site.connect("root") as conn, conn.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = 0")
                for account in ("drc_source", "drc_applier", "drc_operator", "app"):
                    cursor.execute(f"DROP USER {account}@'%'")
                for statement in filter(None, map(str.strip, _accounts_sql().split(";"))):
                    cursor.execute(statement)
                cursor.execute("CREATE TABLE shop.marker (site CHAR(9) PRIMARY KEY, v CHAR(36))")
            site.password_file("app").write_text(os.environ["APP_PASSWORD"])
            text = text.replace(f'"mysql-{name}"', f'"127.0.0.1"\nport = {site.port}')
        path = tmp_path / "pair.toml"
        path.write_text(text)
        assert cli.invoke(["migrate", "-c", str(path)]) == 0
        capsys.readouterr()
        assert cli.invoke(["check", "-c", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["findings"]
        assert [f for f in found if f["level"] in ("warn", "fail")] == []
        daemon = Daemon(box, path).start()
        try:
            for name, table in zip(sites, ("t1", "t2"), strict=True):
                box.sites[name].query(
                    f"CREATE TABLE shop.{table} (id INT PRIMARY KEY)", None, "app"
                )
            daemon.drain("shop")
            for site in box.sites.values():
                assert site.query("SHOW TABLES IN shop") == [("marker",), ("t1",), ("t2",)]
        finally:
            assert daemon.stop() == 0
