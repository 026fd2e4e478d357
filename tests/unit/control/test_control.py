"""Orders without servers: what a new place would mean, which keys a daemon takes up, how fast."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from drc import config as configuration
from drc.apply.throttle import Throttle
from drc.binlog.transaction import Kind, RawTransaction
from drc.binlog.xa import PreparedTransactions
from drc.config import Config
from drc.control.control import Control, Order
from drc.control.reload import refuse_offline
from drc.control.reposition import Plan, judge
from drc.errors import ConfigError
from drc.gtid import Gtid, GtidSet, parse_uuid
from drc.site.site import Site
from drc.state.store import Store

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"


def places(to: str, *, applied: str = "1-100", executed: str = "1-150", purged: str = "") -> Plan:
    def own(text: str) -> GtidSet:
        return GtidSet.parse(f"{A}:{text}" if text else "")

    others = GtidSet.parse(f"{A}:drc:1-40,{B}:1-9")  # replicated rows and DDL
    return judge(
        "a",
        "b",
        own(to),
        applied=own(applied) | others,
        executed=own(executed) | others,
        purged=own(purged),
        foreign={parse_uuid(B)},
    )


@pytest.mark.parametrize(
    ("to", "repeated", "skipped", "harmless"),
    [
        ("1-100", "", "", True),
        ("1-60", "61-100", "", True),
        ("", "1-100", "", True),
        ("1-101", "", "101", False),
        ("1-150", "", "101-150", False),
        ("1-60:110-120", "61-100", "110-120", False),
    ],
)
def test_going_back_is_harmless_and_going_past_what_is_not_applied_is_not(
    to: str, repeated: str, skipped: str, *, harmless: bool
) -> None:
    found = places(to)
    texts = [f"{A}:{t}" if t else "" for t in (repeated, skipped)]
    assert [str(found.repeated), str(found.skipped)] == texts
    assert (found.refusal is None) is harmless
    assert found.document()["harmless"] is harmless
    if skipped:
        assert texts[1] in str(found.refusal)


def test_what_is_read_again_is_the_origins_own_and_what_it_still_has() -> None:
    found = places("1-60", purged="1-70")
    assert (str(found.repeated), str(found.gone)) == (f"{A}:71-100", f"{A}:61-70")
    assert found.refusal is None
    assert found.begin == GtidSet.parse(f"{A}:1-70,{A}:drc:1-40,{B}:1-9")


def test_what_is_purged_and_not_applied_is_lost_wherever_one_begins() -> None:
    for to in ("1-60", "1-120"):
        found = places(to, purged="1-110")
        assert str(found.lost) == f"{A}:101-110"
        assert found.refusal
        assert found.forcible


def test_nobody_can_insist_on_what_never_was() -> None:
    found = places("1-200")
    assert found.refusal
    assert not found.forcible
    assert str(found.unknown) == f"{A}:151-200"


# ------------------------------------------------------------ reload


def pair(**changes: Any) -> Config:
    account = {"user": "u", "password_env": "X"}
    site = {"host": "a", "source": account, "applier": account}
    raw = {"name": "t", "sites": {"a": site, "b": {**site, "host": "b"}}, **changes}
    return configuration.parse(raw, Path("/x"))


def test_tables_policies_parallelism_and_throttle_change_while_running() -> None:
    new = pair(
        apply={"parallel": 2, "transactions_per_s_max": 100},
        replicate={"schemas": ["shop"], "exclude_tables": ["shop.log"]},
        conflicts={"tables": {"shop.stock": {"policy": "park"}}},
    )
    assert refuse_offline(pair(), new) == [
        "apply.parallel",
        "apply.transactions_per_s_max",
        "conflicts.tables",
        "replicate.exclude_tables",
        "replicate.schemas",
    ]
    assert refuse_offline(new, new) == []


def test_what_needs_a_restart_is_named_and_nothing_is_taken_up() -> None:
    site = {"host": "c", "source": {"user": "u", "password_env": "X"}}
    site["applier"] = site["source"]
    account = {"user": "u", "password_env": "X"}
    sites = {"a": site, "b": {"host": "b", "source": account, "applier": account}}
    with pytest.raises(ConfigError, match=r"web\.listen") as caught:
        refuse_offline(pair(), pair(web={"listen": "127.0.0.1:1"}, apply={"parallel": 2}))
    assert "parallel" not in caught.value.message
    with pytest.raises(ConfigError, match=r"sites\.a\.host"):
        refuse_offline(pair(), pair(sites=sites))


def test_a_reload_reaches_the_streams_and_the_index_by_which_they_are_judged(
    tmp_path: Path,
) -> None:
    account = '{ user = "u", password_env = "X" }'
    text = 'name = "p"\n[replicate]\n' + "".join(
        f'[sites.{name}]\nhost = "{name}"\nsource = {account}\napplier = {account}\n'
        for name in "ab"
    )
    path = tmp_path / "pair.toml"
    path.write_text(text)
    config = configuration.load(path)
    store = Store(config.state_url)
    site = Site(config, "b", threading.Event(), store)
    control = Control(path, config, site, store)
    path.write_text(text.replace("[replicate]", '[replicate]\nexclude_tables = ["s.t"]'))
    assert control.reload(Order("me", "why")) == {"changed": ["replicate.exclude_tables"]}
    assert control.config.replicate.exclude_tables == ("s.t",)
    assert site.watcher
    assert [stream.config is control.config for stream in site.streams.values()] == [True]
    assert site.watcher.config is control.config
    store.close()


# ------------------------------------------------------------ throttle, skips


def test_a_throttle_gives_out_its_rate_and_no_more() -> None:
    now = [0.0]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            now[0] += timeout or 0
            return False

    throttle, gone = Throttle(100, lambda: now[0]), 0
    while now[0] < 10:
        count = min(throttle.wait(Stop()), 7)
        throttle.spend(count)
        gone += count
    assert 990 <= gone <= 1020
    throttle.spend(100)  # a large transaction is made good by waiting
    before = now[0]
    throttle.wait(Stop())
    assert now[0] - before == pytest.approx(1, abs=0.2)
    assert Throttle(0).wait(Stop()) > 1_000_000


def transaction(number: int, kind: Kind, xid: bytes = b"") -> RawTransaction:
    gtid = Gtid(parse_uuid(A), number, "")
    return RawTransaction(gtid, 1, b"rows", [0], 4, 0, kind=kind, xid=xid)


def test_a_dropped_transaction_is_decided_and_holds_nothing() -> None:
    prepared = PreparedTransactions()
    plain = transaction(1, Kind.ROWS)
    prepared.drop(plain)
    assert (plain.kind, plain.events) == (Kind.SKIPPED, [])


def test_dropping_either_half_of_an_xa_transaction_drops_its_rows_and_decides_both() -> None:
    for dropped in (0, 1):
        prepared = PreparedTransactions()
        halves = transaction(1, Kind.XA_PREPARE, b"x"), transaction(2, Kind.XA_COMMIT, b"x")
        outcome = None
        for n, half in enumerate(halves):
            if n == dropped:
                prepared.drop(half)
            outcome = prepared.admit(half)
        assert outcome
        assert (outcome.gtid, outcome.also) == (halves[1].gtid, (halves[0].gtid,))
        assert outcome.events == []
        assert not prepared.held


def test_the_outcome_of_an_unknown_xa_transaction_can_be_dropped() -> None:
    prepared, commit = PreparedTransactions(), transaction(2, Kind.XA_COMMIT, b"x")
    prepared.drop(commit)
    assert prepared.admit(commit) is commit
    assert commit.kind is Kind.SKIPPED
