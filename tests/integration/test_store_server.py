"""The checkpoint store on real servers: MySQL and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from drc.cli import invoke
from drc.client.daemons import daemon_of
from drc.errors import TransientError
from drc.sandbox import Sandbox
from drc.sandbox.process import free_port
from drc.state.lag_history import Bucket
from drc.state.store import Store
from drc.worker.snapshot import Snapshot, StreamSnapshot
from drc.worker.wanted import Wanted
from tests.faults.fix_daemon import LONG, StartDaemon
from tests.faults.test_control import TOKEN, await_up, stream
from tests.integration.fix_postgres import Postgres
from tests.unit.state.test_store import create_together

pytestmark = pytest.mark.servers

S = 1_000_000


class Place(NamedTuple):
    """A database for a store: the URL, the password if the URL has none, and a query function."""

    url: str
    password: str
    query: Callable[[str], list[tuple[Any, ...]]]

    def store(self) -> Store:
        return Store(self.url, self.password)


@pytest.fixture(params=["mysql", "postgresql"])
def place(request: pytest.FixtureRequest, schema: str) -> Place:
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        server.query(f"CREATE DATABASE {schema}")
        return Place(server.url(schema), server.password, lambda sql: server.query(sql, schema))
    site = request.getfixturevalue("pair").sites["a"]
    site.query(f"CREATE DATABASE `{schema}`")
    url = f"mysql+pymysql://app:{site.password('app')}@{site.host}:{site.port}/{schema}"
    return Place(url, "", lambda sql: site.query(sql.replace("FROM ", f"FROM `{schema}`.")))


def test_processes_create_it_together(place: Place) -> None:
    create_together(place.url, 2, place.password)
    assert len(place.query("SELECT * FROM drc_schema_version")) == 1


def test_what_operators_want_and_did_is_kept(place: Place) -> None:
    store = place.store()
    assert store.wanted("b") == {}
    for wanted in (Wanted("stopped", "before"), Wanted("paused", "why")):
        store.save_wanted("a", "b", wanted)
    store.note("me", "pause", "a->b", "a reason, in 中文", {"x": 1})
    store.note("me", "resume", "a->b", "", {})
    stream = StreamSnapshot(origin="a", target="b", state="running", applied_set="p" * 70_000)
    store.save_status("b", Snapshot(streams=[stream]))
    for _ in range(2):
        store.save_revision("b", "digest", {"name": "p"})
    assert store.wanted("b") == {"a": Wanted("paused", "why")}
    found = [(n["action"], n["reason"], n["detail"]) for n in store.noted(5)]
    assert found == [("resume", "", {}), ("pause", "a reason, in 中文", {"x": 1})]
    assert len(store.noted(1)) == 1
    assert len(store.statuses()["b"].streams[0].applied_set) == 70_000
    assert place.query("SELECT COUNT(*) FROM config_revisions") == [(1,)]


def test_snapshots_and_the_history_of_lag_are_kept_in_bounds(place: Place) -> None:
    store = place.store()
    for x in (1, 2):
        store.save_status("b", Snapshot(cpu_us=x))
    assert store.statuses()["b"].cpu_us == 2
    for at in range(0, 2000 * S, 100 * S):  # a bucket of a second lives for ten minutes
        store.save_lag([Bucket("a", "b", 1, at, {"n": at}), Bucket("a", "b", 10, at, {"n": -at})])
    told = [(one["bucket_s"], one["at_us"] // S) for one in store.lag("a", "b", 1000 * S)]
    assert told == [(10, at) for at in range(1000, 1300, 100)] + [
        (1, at) for at in range(1300, 2000, 100)
    ]
    assert place.query("SELECT COUNT(*) FROM lag_history WHERE bucket_s = 1") == [(7,)]


def test_one_that_is_away_is_told_once_and_without_its_password(place: Place) -> None:
    url = place.url.replace(f":{place.url.rpartition(':')[2].partition('/')[0]}/", ":1/")
    store = Store(url, place.password)
    with capture_logs() as logs:
        for _ in range(2):
            store.save_status("b", Snapshot())
        assert store.statuses() == {}
    (told,) = logs
    assert "going on without" in told["event"]
    with pytest.raises(TransientError) as caught:
        store.migrate()
    secret = place.password or place.url.partition("app:")[2].partition("@")[0]
    assert secret not in f"{logs} {caught.value} {caught.value.fields()}"


@LONG
def test_a_daemon_keeps_its_wishes_there(
    postgres: Postgres,
    pair: Sandbox,
    schema: str,
    daemon: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRC_TOKEN", TOKEN)
    monkeypatch.setenv("DRC_STATE", postgres.password)
    ports = {name: free_port() for name in pair.sites}
    running = daemon(pair, name="kept", web={"token_env": "DRC_TOKEN"}, listen=ports)
    assert running.stop() == 0, running.tail()
    postgres.query(f"CREATE DATABASE {schema}")
    lines = running.path.read_text().splitlines(keepends=True)
    kept = f'state_url = "{postgres.url(schema)}"\nstate_password_env = "DRC_STATE"\n'
    text = "".join(kept if line.startswith("state_url") else line for line in lines)
    running.path.write_text(text)
    running.start()
    await_up(running)
    assert invoke(["pause", "-c", str(running.path), "--reason", "kept", "a", "b"]) == 0
    assert running.stop() == 0, running.tail()
    running.start()
    await_up(running)
    assert stream(running, "a", "b").state == "paused"
    assert daemon_of(running.config, "b").snapshot().controls["a->b"].reason == "kept"
    assert postgres.password not in running.log.read_text()
    assert running.stop() == 0, running.tail()
