"""The feed of a publisher: goes over from an own dump to the watcher's, between transactions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from drc import config
from drc.gtid import GtidSet
from drc.kafka import feed as module
from drc.kafka.feed import Feed
from drc.pipe.queue import TransactionQueue
from drc.pipe.tee import Tee
from tests.unit.pipe.test_tee import FORMAT, transaction, upto

ACCOUNT = {"user": "u", "password_env": "X"}
SITE = {"host": "a", "source": ACCOUNT, "applier": ACCOUNT}
CONFIG = config.parse({"name": "t", "sites": {"a": SITE, "b": {**SITE, "host": "b"}}}, Path())


class Server:
    """A site without published transactions; ``queue`` gets the transactions of a dump."""

    queue = TransactionQueue(1)

    def __init__(self, *_: object) -> None:
        self.closed = False

    def start(self) -> GtidSet:
        return GtidSet()

    def read_first(self, queue: TransactionQueue, *_: object, **__: object) -> Server:
        self.queue = queue
        return self

    def format_description(self, _: float) -> bytes:
        return FORMAT

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def tee() -> Tee:
    return Tee()


@pytest.fixture
def feed(tee: Tee, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Return a feed with an own dump, as the watcher reads nothing yet."""
    monkeypatch.setattr(module, "SourceSite", Server)
    monkeypatch.setattr(module, "_JOIN_S", 0.0)
    return Feed(CONFIG, "a", tee, None, contextlib.ExitStack())


def taken(feed: Feed) -> list[tuple[int, bool]]:
    out = []
    while found := feed.take(0):
        out += [(t.gtid.gno, t.last) for t in found]
    return out


def test_it_goes_over_where_the_branch_begins(feed: Feed, tee: Tee) -> None:
    own: Any = feed.inlet
    with tee.reading(GtidSet()):
        tee.begun(FORMAT, 1)
        own.queue.append([transaction(1)])
        assert taken(feed) == [(1, True)]
        feed.join(upto(1))
        tee.pass_on([transaction(1), transaction(2), transaction(3)])
        feed.join(upto(1))
        own.queue.append([transaction(n) for n in range(2, 6)])
        tee.pass_on([transaction(4), transaction(5)])
        assert taken(feed) == [(2, True), (3, True), (4, True), (5, True)]
    assert own.closed
    assert feed.inlet is not own


def test_it_does_not_go_over_inside_a_transaction(feed: Feed, tee: Tee) -> None:
    own: Any = feed.inlet
    with tee.reading(GtidSet()):
        tee.begun(FORMAT, 1)
        tee.pass_on([transaction(1)])
        own.queue.append([transaction(1, last=False)])
        assert taken(feed) == [(1, False)]
        feed.join(upto(1))  # a publisher counts a transaction from the first part on
        own.queue.append([transaction(1)])
        assert taken(feed) == [(1, True)]
        feed.join(upto(1))
        tee.pass_on([transaction(2)])
        assert taken(feed) == [(2, True)]
