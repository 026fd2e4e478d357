"""The one restart story: what passes is tried again, what needs a person ends and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drc import config as configuration
from drc.control.wanted import Wanted
from drc.errors import DataError, InvariantError, TransientError
from drc.monitor.progress import SessionProgress
from drc.sessions import Worker
from drc.site import Site
from drc.stream import Stream


class Script(Worker):
    """Ends its sessions as it is told."""

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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_does_not_leave_a_stream_that_says_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    account = {"user": "u", "password_env": "X"}
    site = {"host": "a", "source": account, "applier": account}
    raw = {"name": "t", "sites": {"a": site, "b": {**site, "host": "b"}}}
    config = configuration.parse(raw, Path())

    def session(stream: Stream) -> None:
        stream.progress.state = "running"
        raise ZeroDivisionError

    saved: list[str] = []

    class Store:
        def save_status(self, _: str, status: dict[str, list[dict[str, str]]]) -> None:
            saved.append(status["streams"][0]["state"])

        def save_lag(self, _: object) -> None: ...

        def wanted(self, _: str) -> dict[str, Wanted]:
            return {}

        def statuses(self) -> dict[str, dict[str, object]]:
            return {}

    monkeypatch.setattr(Stream, "_session", session)
    with pytest.raises(InvariantError, match="a->b broke"):
        Site(config, "b", threading.Event(), Store()).run()
    assert saved[-1] == "stopped"


# ------------------------------------------------------------ whose turn it is


class Patient(Worker):
    """Its sessions last until they are told to end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        super().__init__("a->b", "b", self.stop, SessionProgress(), backoff_max_s=0.01)
        self.began = threading.Semaphore(0)
        self.thread = threading.Thread(target=self.run)

    def _session(self) -> None:
        self.progress.state = "running"
        self.began.release()
        self.turn.halt.wait()


@pytest.fixture
def patient() -> Iterator[Patient]:
    worker = Patient()
    worker.thread.start()
    yield worker
    worker.stop.set()
    worker.thread.join(10)
    assert not worker.thread.is_alive()


def test_a_pause_ends_the_session_and_a_resume_begins_another(patient: Patient) -> None:
    assert patient.began.acquire(timeout=10)
    patient.turn.wanted = Wanted("paused", "backup")
    assert patient.turn.rest(10)
    assert not patient.began.acquire(timeout=0.05)
    patient.turn.wanted = Wanted()
    assert patient.began.acquire(timeout=10)
    assert patient.progress.sessions == 2


def test_nothing_runs_while_a_worker_is_held_or_is_paused_meanwhile(patient: Patient) -> None:
    assert patient.began.acquire(timeout=10)
    with patient.turn.held(10), patient.turn.held(10):
        assert not patient.began.acquire(timeout=0.05)
        patient.turn.wanted = Wanted("stopped")
    assert not patient.began.acquire(timeout=0.05)
    patient.turn.wanted = Wanted()
    assert patient.began.acquire(timeout=10)


def test_who_holds_does_not_wait_for_ever_and_lets_go() -> None:
    worker = Patient()
    worker.turn.halt.wait = lambda _=None: worker.stop.wait()  # type: ignore[method-assign, assignment]
    worker.thread.start()
    assert worker.began.acquire(timeout=10)
    with pytest.raises(TransientError, match="did not end"), worker.turn.held(0.01):
        pytest.fail("somebody runs")
    assert not worker.turn.halt.is_set()
    worker.stop.set()
    worker.thread.join(10)


def test_a_pause_is_told_by_the_worker(patient: Patient) -> None:
    assert patient.began.acquire(timeout=10)
    patient.turn.wanted = Wanted("paused", "backup")
    deadline = time.monotonic() + 10
    while patient.progress.state != "paused" and time.monotonic() < deadline:
        time.sleep(0.005)
    assert (patient.progress.state, patient.progress.reason) == ("paused", "backup")
