"""The observer: facts added to the progress of a stream, with pulses that answer at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drc import config as configuration
from drc.binlog.stamps import now_us
from drc.errors import TransientError
from drc.gtid import GtidSet, parse_uuid
from drc.monitor import observer
from drc.monitor.observer import Observer
from drc.monitor.pulse import Look
from drc.schema.uuids import Servers
from drc.worker.progress import StreamProgress
from drc.worker.snapshot import Behind

A = "aaaaaaaa-0000-0000-0000-000000000001"
B = "bbbbbbbb-0000-0000-0000-000000000002"
UUIDS = {"a": parse_uuid(A), "b": parse_uuid(B)}
ACCOUNT = {"user": "u", "password_env": "X"}
SITES = {n: {"host": n, "source": ACCOUNT, "applier": ACCOUNT} for n in "ab"}
CONFIG = configuration.parse({"name": "shop", "sites": SITES}, Path("/"))


class Pulse:
    """A server that has executed ten transactions of a."""

    def __init__(self, _config: object, site: str, *_: object) -> None:
        self.offset = SimpleNamespace(us=0)
        self.look: Look | None = Look(now_us(), GtidSet.parse(f"{A}:1-10"))
        self.uuid = UUIDS[site]
        self.servers = Servers.of((site, self.uuid))
        self.error: TransientError | None = None

    def close(self) -> None: ...


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, StreamProgress]:
    monkeypatch.setattr(observer, "Pulse", Pulse)
    progress = StreamProgress("a", "b")
    return Observer(CONFIG, "b", [progress], None), progress


def test_a_stream_is_behind_by_what_its_origin_has_executed(
    observed: tuple[Any, StreamProgress],
) -> None:
    it, progress = observed
    it.tick()
    assert progress.snapshot().behind == Behind()  # the decided set is not known
    progress.decided_by_sessions = f"{A}:1-7"
    it.tick()
    said = progress.snapshot()
    assert (said.behind.transactions, said.behind.bytes) == (3, None)
    assert said.behind.seconds is not None
    assert said.observed_us == it._pulses["a"].look.at_us


def test_the_rates_are_those_since_the_last_look(observed: tuple[Any, StreamProgress]) -> None:
    it, progress = observed
    it.tick()
    assert progress.snapshot().rates.rows == 0
    progress.rows_in = 1_000_000
    it.tick()
    assert progress.snapshot().rates.rows > 0


def test_a_hold_keeps_its_beginning_and_its_history_has_one_word(
    observed: tuple[Any, StreamProgress],
) -> None:
    it, progress = observed
    it._pulses["a"].error = TransientError("refused")
    it.tick()
    first = progress.snapshot().blocked
    assert first
    assert (first.what, first.since_us > 0) == ("source", True)
    it.tick()
    assert progress.snapshot().blocked == first
    (_, held), *_ = it._tracks[0].history._open
    assert held[-1]["blocked"] == "source"
    it._pulses["a"].error = None
    progress.state = "running"
    it.tick()
    assert progress.snapshot().blocked is None
