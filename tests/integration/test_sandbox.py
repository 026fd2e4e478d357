"""The sandbox itself: started twice, killed, side by side, and the accounts."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pymysql
import pytest

from drc.cli import invoke as run
from drc.sandbox import Sandbox, SiteSpec

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.servers
SPECS = [SiteSpec("a"), SiteSpec("b")]


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "box", die_with_parent=True)


def test_up_twice_is_up_once_and_survives_a_kill(box: Sandbox) -> None:
    with box:
        box.up(SPECS)
        pids = [site.pid for site in box.sites.values()]
        assert all(pids)
        uuids = {site.query("SELECT @@server_uuid")[0][0] for site in box.sites.values()}
        assert len(uuids) == 2
        box.up(SPECS)
        assert [site.pid for site in box.sites.values()] == pids
        box.sites["a"].query("CREATE DATABASE kept")
        box.sites["a"].kill9()
        assert box.sites["a"].pid is None
        again = Sandbox(box.folder, die_with_parent=True)
        assert [row["state"] for row in again.status()] == ["stopped", "running"]
        again.up(SPECS)
        assert again.sites["b"].pid == pids[1]
        assert again.sites["a"].query("SHOW DATABASES LIKE 'kept'")
        again.sites["a"].stop()
        assert again.sites["a"].pid is None


def test_a_pid_of_a_stranger_is_left_alone(box: Sandbox) -> None:
    with box:
        box.up(SPECS[:1])
        site = box.sites["a"]
        real = (site.folder / "pid").read_text()
        (site.folder / "pid").write_text(str(os.getppid()))
        assert site.pid is None
        site.stop()
        os.kill(os.getppid(), 0)
        (site.folder / "pid").write_text(real)


def test_settings_are_those_that_production_needs(pair: Sandbox) -> None:
    for site in pair.sites.values():
        settings = site.query(
            "SELECT @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@gtid_mode,"
            " @@enforce_gtid_consistency, @@log_replica_updates"
        )[0]
        assert settings == ("ROW", "FULL", "FULL", "ON", "ON", 1)


def test_accounts_have_the_least_they_need(pair: Sandbox) -> None:
    site = pair.sites["a"]
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        site.query("SET gtid_next = 'AUTOMATIC:drc'", account="drc_source")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        site.query("CREATE USER nobody", account="drc_applier")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        site.query("SET GLOBAL read_only = 1", account="app")
    for path in site.folder.glob("*.password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_passwords_are_not_in_any_command_line(pair: Sandbox) -> None:
    secrets = [
        path.read_bytes() for site in pair.sites.values() for path in site.folder.glob("*.password")
    ]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        assert not any(secret in line for secret in secrets)


def test_the_command_line_tells_what_runs(
    pair: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sandbox", "status", "--dir", str(pair.folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["state"], r["version"]) for r in rows] == [
        ("a", "running", "9.7"),
        ("b", "running", "9.7"),
    ]
    assert run(["sandbox", "up", "--dir", str(pair.folder), "--mysql", "8.0,9.7,9.7"]) == 2


def test_make_clean_stops_every_sandbox(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"  # no link: `clean` removes the file
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with Sandbox(tmp_path / ".sandbox" / "bench", die_with_parent=True) as box:
        box.up(SPECS[:1])
        server = box.sites["a"]._process
        subprocess.run(
            ["make", "-f", str(ROOT / "Makefile"), "clean"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
        )
        assert server
        assert server.wait(60) == 0  # at once, apart from the kernel
    assert list(tmp_path.iterdir()) == []


def test_a_quick_server_is_small(pair: Sandbox) -> None:
    """Check the size of the redo log: with a small template, two sites stay below a gigabyte."""
    for site in pair.sites.values():
        redo = sum(path.stat().st_size for path in (site.data / "#innodb_redo").iterdir())
        assert redo <= 64 << 20


def test_a_server_that_cannot_start_says_why(box: Sandbox) -> None:
    from drc.errors import TransientError

    with box, pytest.raises(TransientError, match="no-such-option"):
        box.up([SiteSpec("a", extra_args=["--no-such-option"])])
    assert box.sites["a"].pid is None
