"""The checkpoint store: holds only hints, so that no failure of the store stops a caller."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from structlog.testing import capture_logs

from drc.errors import ConfigError
from drc.schema.version import site_head
from drc.shipped import shipped
from drc.state.store import Store
from drc.worker.snapshot import Snapshot


def _store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/s.db")


def test_round_trip(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save_status("a", Snapshot(cpu_us=1))
    store.save_status("a", Snapshot(cpu_us=2))
    assert store.statuses()["a"].cpu_us == 2
    assert store.statuses()["a"].saved_us > 0


def test_reading_creates_nothing(tmp_path: Path) -> None:
    assert _store(tmp_path).statuses() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_store_comes_back(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save_status("a", Snapshot(cpu_us=1))
    (tmp_path / "s.db").unlink()
    (tmp_path / "s.db-wal").write_bytes(b"of the deleted file")
    store.save_status("b", Snapshot(cpu_us=2))
    assert list(store.statuses()) == ["b"]


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_a_broken_store_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.db").write_bytes(content)
    store = _store(tmp_path)
    with capture_logs() as logs:
        store.save_status("a", Snapshot(cpu_us=1))
    assert store.statuses()["a"].cpu_us == 1
    assert bool(logs) == bool(content)


def test_an_unwritable_store_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drc.state.migrate._ATTEMPT_PAUSE_S", 0.001)
    store = Store(f"sqlite:///{tmp_path}/missing/s.db")
    with capture_logs() as logs:
        store.save_status("a", Snapshot())
        store.save_status("a", Snapshot())
        assert store.statuses() == {}
    assert [e["log_level"] for e in logs] == ["warning"]
    (tmp_path / "missing").mkdir()
    store.save_status("a", Snapshot(cpu_us=1))
    assert store.statuses()["a"].cpu_us == 1


def test_a_store_of_a_newer_release_stops_nobody(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.migrate()
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as file, file:
        file.execute("UPDATE drc_schema_version SET version_num = '9999'")
        file.execute("DROP TABLE statuses")
    with capture_logs() as logs:
        store.save_status("a", Snapshot())
    assert "'9999'" in logs[0]["error"]
    with pytest.raises(ConfigError, match="9999"):
        store.migrate()


def test_a_table_that_nothing_reads_goes_from_an_older_store(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save_status("a", Snapshot(cpu_us=1))
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as file, file:
        file.execute("UPDATE drc_schema_version SET version_num = '0002'")
        file.execute("CREATE TABLE positions (origin VARCHAR)")
    assert store.migrate().before == "0002"
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    assert "positions" not in tables
    assert store.statuses()["a"].cpu_us == 1


def _save(url: str, password: str, site: str) -> None:
    Store(url, password).save_status(site, Snapshot(cpu_us=len(site)))


def create_together(url: str, processes: int, password: str = "") -> None:
    """Let processes save a status each, all into a store that does not exist yet."""
    # Imports take a second and are done once, so the children begin close together.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    sites = [f"s{i}" for i in range(processes)]
    children = [context.Process(target=_save, args=(url, password, site)) for site in sites]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [c.exitcode for c in children] == [0] * processes
    assert set(Store(url, password).statuses()) == set(sites)


def test_processes_create_it_together(tmp_path: Path) -> None:
    create_together(f"sqlite:///{tmp_path}/s.db", 4)


def test_what_an_operator_did_is_kept_by_a_store_that_is_new_or_was_deleted(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    for _ in range(2):
        with capture_logs() as logs:
            store.save_revision("a", "digest", {})
            store.note("me", "pause", "a->b", "why", {})
        assert [entry["action"] for entry in store.noted(5)] == ["pause"]
        assert not [e for e in logs if e["log_level"] == "warning"]
        (tmp_path / "s.db").unlink()


def test_a_driver_that_is_not_there_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="state_url"):
        Store("nosuch://host/db")


def test_the_version_that_a_site_needs_is_the_head_of_the_migrations() -> None:
    script = ScriptDirectory(str(shipped("migrations/site")))
    assert site_head() == script.get_current_head()
