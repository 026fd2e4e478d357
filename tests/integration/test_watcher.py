"""A site's own binlog when the server has deleted the part that the index would be built from."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from drc import mysql
from drc.apply import ledger
from drc.cli import invoke
from drc.config import Config, load
from drc.conflict.live import LiveIndex
from drc.conflict.watcher import Watcher
from drc.gtid import GtidSet
from drc.sandbox import Sandbox, SiteSpec

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Servers of this file alone, as their binlogs are purged."""
    with Sandbox(tmp_path_factory.mktemp("watcher"), die_with_parent=True) as box:
        box.up([SiteSpec("a", "9.7"), SiteSpec("b", "9.7")])
        yield box


@pytest.fixture
def config(sites: Sandbox, tmp_path: Path) -> Config:
    path = sites.write_config(tmp_path / "p.toml", start="now", name="watcher")
    assert invoke(["migrate", "-c", str(path)]) == 0
    return load(path)


def purge(sites: Sandbox) -> GtidSet:
    """Write at ``a``, have it deleted from the binlog; return what was."""
    a = sites.sites["a"]
    before = GtidSet.parse(a.query("SELECT @@GLOBAL.gtid_executed")[0][0])
    a.query("CREATE DATABASE gone")
    a.query("DROP DATABASE gone")
    a.query("FLUSH BINARY LOGS")
    a.query("PURGE BINARY LOGS TO %s", (a.query("SHOW BINARY LOGS")[-1][0],))
    return GtidSet.parse(a.query("SELECT @@GLOBAL.gtid_purged")[0][0]) - before


@contextlib.contextmanager
def watched(config: Config) -> Iterator[LiveIndex]:
    stop = threading.Event()
    index = LiveIndex("a", config.sites, 1000)
    watcher = Watcher(config, "a", stop, index)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        assert index.wait_fresh(30.0), watcher.progress.snapshot()
        yield index
    finally:
        stop.set()
        thread.join()


def test_before_the_first_stream_nothing_purged_is_missed(sites: Sandbox, config: Config) -> None:
    purge(sites)
    with watched(config) as index:
        assert index.clean("b", {}, frozenset({1}))
    given = msgspec.structs.replace(config.replicate, start="earliest")
    with watched(msgspec.structs.replace(config, replicate=given)) as index:
        assert index.rivals("b", {}, [1]).blind


def test_who_has_not_seen_what_was_purged_is_not_judged(sites: Sandbox, config: Config) -> None:
    settings = config.sites["a"]
    conn = mysql.connect(settings, settings.applier, site_name="a")
    with contextlib.closing(conn):
        ledger.create(conn, "b", GtidSet(), 0)
    gone = purge(sites)
    with watched(config) as index:
        found = index.rivals("b", {}, [1])
        assert (found.writes, found.blind) == ((), True)
        assert not index.clean("b", {}, frozenset({1}))
        everything = GtidSet.parse(sites.sites["a"].query("SELECT @@GLOBAL.gtid_executed")[0][0])
        assert gone <= everything
        assert not index.rivals("b", {"a": everything}, [1]).blind
        index.advance("b", {"a": everything})
        assert not index.rivals("b", {}, [1]).blind
