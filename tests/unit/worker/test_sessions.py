"""Sessions of a worker: a passing error is retried, others end the worker and are shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drc import config as configuration
from drc.errors import DataError, InvariantError, TransientError
from drc.pipe.queue import TransactionQueue
from drc.site.site import Site
from drc.site.stream import Stream
from drc.site.watcher import Watcher
from drc.worker.progress import SessionProgress
from drc.worker.sessions import Worker
from drc.worker.snapshot import SavedSnapshot, Snapshot
from drc.worker.wanted import Wanted


class Script(Worker):
    """A worker whose sessions end with the given outcomes."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.stop = threading.Event()
        super().__init__("a->b", "b", self.stop, SessionProgress(), backoff_max_s=0.01)
        self.outcomes = list(outcomes)
        self.states: list[str] = []

    def _session(self) -> None:
        self.states.append(self.progress.state)
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.stop.set()
        if outcome:
            raise outcome


def test_a_trouble_that_passes_is_tried_again() -> None:
    worker = Script(TransientError("away"), TransientError("away"), None)
    worker.run()
    assert worker.progress.sessions == 3
    assert worker.states == ["connecting"] * 3
    assert (worker.progress.state, worker.progress.error) == ("stopped", None)


def test_what_needs_a_person_ends_it_and_names_the_site() -> None:
    worker = Script(DataError("no such row"), None)
    with pytest.raises(DataError) as caught:
        worker.run()
    assert caught.value.site == "b"
    assert (worker.progress.state, worker.progress.sessions) == ("stopped", 1)
    assert worker.progress.reason.startswith("no such row")


class Store:
    """A store that keeps the saved snapshots."""

    def __init__(self) -> None:
        self.saved: list[Snapshot] = []

    def save_status(self, _: str, status: Snapshot) -> None:
        self.saved.append(status)

    def save_lag(self, _: object) -> None: ...

    def wanted(self, _: str) -> dict[str, Wanted]:
        return {}

    def statuses(self) -> dict[str, SavedSnapshot]:
        return {}


def _site(stop: threading.Event, store: Store) -> Site:
    account = {"user": "u", "password_env": "X"}
    site = {"host": "a", "source": account, "applier": account}
    raw = {"name": "t", "sites": {"a": site, "b": {**site, "host": "b"}}}
    return Site(configuration.parse(raw, Path()), "b", stop, store)


def test_a_site_is_behind_while_much_of_a_peers_binlog_waits() -> None:
    class Inlet:
        queue = TransactionQueue(1 << 30)
        read_bytes = 0

    site = _site(threading.Event(), Store())
    assert not site._behind()  # no session yet
    site.streams["a"].progress._inlet = Inlet()  # type: ignore[assignment]
    Inlet.queue.bytes = 100_000
    assert not site._behind()
    Inlet.queue.bytes = 10_000_000
    assert site._behind()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_does_not_leave_a_stream_that_says_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(stream: Stream) -> None:
        stream.progress.state = "running"
        raise ZeroDivisionError

    monkeypatch.setattr(Stream, "_session", session)
    store = Store()
    with pytest.raises(InvariantError, match="a->b cannot go on"):
        _site(threading.Event(), store).run()
    assert store.saved[-1].streams[0].state == "stopped"


def test_neither_a_start_nor_a_stop_by_request_is_an_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, store = threading.Event(), Store()
    begins = {kind: kind.run for kind in (Stream, Watcher)}

    def watcher_run(worker: Watcher) -> None:
        looked.wait(10)  # a thread that starts late
        begins[Watcher](worker)

    def stream_run(worker: Stream) -> None:
        begins[Stream](worker)
        ended.wait(10)  # the watcher has ended long before

    looked, ended = threading.Event(), threading.Event()

    class Looks(Store):
        def save_status(self, site: str, status: Snapshot) -> None:
            super().save_status(site, status)
            if not looked.is_set():
                looked.set()
                stop.set()
            elif status.watcher and status.watcher.state == "stopped":
                ended.set()

    for kind in begins:
        monkeypatch.setattr(kind, "_session", lambda worker: worker.permit.halt.wait())
    monkeypatch.setattr(Watcher, "run", watcher_run)
    monkeypatch.setattr(Stream, "run", stream_run)
    store = Looks()
    _site(stop, store).run()
    assert [said.watcher and said.watcher.state for said in store.saved][:2] == [
        "connecting",
        "stopped",
    ]
    assert [said.alerts for said in store.saved if said.alerts] == []


# ------------------------------------------------------------ permits


class Patient(Worker):
    """A worker whose sessions last until told to end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        super().__init__("a->b", "b", self.stop, SessionProgress(), backoff_max_s=0.01)
        self.began = threading.Semaphore(0)
        self.thread = threading.Thread(target=self.run)

    def _session(self) -> None:
        self.progress.state = "running"
        self.began.release()
        self.permit.halt.wait()


@pytest.fixture
def patient() -> Iterator[Patient]:
    worker = Patient()
    worker.thread.start()
    yield worker
    worker.stop.set()
    worker.permit.halt.set()  # wakes the session at once
    worker.thread.join(10)
    assert not worker.thread.is_alive()


def test_a_pause_ends_the_session_and_a_resume_begins_another(patient: Patient) -> None:
    assert patient.began.acquire(timeout=10)
    patient.permit.wanted = Wanted("paused", "backup")
    assert patient.permit.rest(10)
    assert not patient.began.acquire(timeout=0.05)
    patient.permit.wanted = Wanted()
    assert patient.began.acquire(timeout=10)
    assert patient.progress.sessions == 2


def test_nothing_runs_while_a_worker_is_held_or_is_paused_meanwhile(patient: Patient) -> None:
    assert patient.began.acquire(timeout=10)
    with patient.permit.withheld(10), patient.permit.withheld(10):
        assert not patient.began.acquire(timeout=0.05)
        patient.permit.wanted = Wanted("stopped")
    assert not patient.began.acquire(timeout=0.05)
    patient.permit.wanted = Wanted()
    assert patient.began.acquire(timeout=10)


def test_who_holds_does_not_wait_for_ever_and_lets_go() -> None:
    worker = Patient()
    worker.permit.halt.wait = lambda _=None: worker.stop.wait()  # type: ignore[method-assign, assignment]
    worker.thread.start()
    assert worker.began.acquire(timeout=10)
    with pytest.raises(TransientError, match="did not end"), worker.permit.withheld(0.01):
        pytest.fail("somebody runs")
    assert not worker.permit.halt.is_set()
    worker.stop.set()
    worker.thread.join(10)


def test_a_pause_is_told_by_the_worker(patient: Patient) -> None:
    assert patient.began.acquire(timeout=10)
    patient.permit.wanted = Wanted("paused", "backup")
    deadline = time.monotonic() + 10
    while patient.progress.state != "paused" and time.monotonic() < deadline:
        time.sleep(0.005)
    assert (patient.progress.state, patient.progress.reason) == ("paused", "backup")
