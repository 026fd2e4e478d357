"""The one restart story: what passes is tried again, what needs a person ends and says so."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from drc import config as configuration
from drc import site as sites
from drc.errors import DataError, InvariantError, TransientError
from drc.monitor.progress import SessionProgress
from drc.sessions import Worker
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

    monkeypatch.setattr(Stream, "_session", session)
    with pytest.raises(InvariantError, match="a->b broke"):
        sites.run_site(config, "b", threading.Event(), Store())
    assert saved[-1] == "stopped"
