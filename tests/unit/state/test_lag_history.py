"""The history of lag: bounded in size, and the worst value stays when buckets are joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drc.state.lag_history import LEVELS, Bucket, History, sample, worst
from drc.state.store import Store
from drc.worker.progress import Observed
from drc.worker.snapshot import Snapshot
from drc.worker.stages import Passage

S = 1_000_000


def one(lag: int, *, state: str = "running", rate: float = 0.0) -> dict[str, Any]:
    return {
        "state": state,
        "lag_us": {"p99": lag or None},
        "rates": {"rows": rate},
        "blocked": None,
    }


def test_a_sample_has_the_lag_of_its_second() -> None:
    got = sample("running", Observed(), [Passage(7, read=3)])
    assert got["lag_us"] == {"p50": 7, "p99": 7, "p999": 7}
    assert got["stages"]["read_us"] == {"p99": 3}
    assert (got["behind"]["seconds"], got["blocked"]) == (None, None)


def test_the_worst_of_several_is_kept_and_rates_are_averaged() -> None:
    joined = worst([one(5, rate=1), one(900, state="connecting", rate=2), one(0, rate=6)])
    assert joined == one(900, state="connecting", rate=3)
    assert worst([one(0), one(0)]) == one(0)


def test_seconds_become_longer_buckets() -> None:
    history, out = History("a", "b"), list[Bucket]()
    for second in range(601):
        out += history.add(second * S + 5, one(second + 1))
    count = {bucket_s: sum(b.bucket_s == bucket_s for b in out) for bucket_s, _ in LEVELS}
    assert count == {1: 600, 10: 60, 300: 2}
    assert out[-1] == Bucket("a", "b", 300, 300 * S, one(600))


def test_the_store_keeps_a_bounded_history_and_tells_each_time_once(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    store.save_status("b", Snapshot())  # creates the store
    history = History("a", "b")
    for second in range(1000):
        store.save_lag(history.add(second * S, one(second + 1)))
    store.save_lag(History("c", "b").add(0, one(1)))
    found = store.lag("a", "b")
    ends = [bucket["at_us"] + bucket["bucket_s"] * S for bucket in found]
    assert all(end <= later["at_us"] for end, later in zip(ends, found[1:], strict=False))
    assert sum(bucket["bucket_s"] == 1 for bucket in found) == 601
    assert found[-1] == {"at_us": 998 * S, "bucket_s": 1, **one(999)}
    assert max(b["lag_us"]["p99"] for b in found if b["bucket_s"] > 1) <= 400
    assert store.lag("a", "b", since_us=998 * S) == found[-1:]
    assert store.lag("b", "a") == []
    store.close()


def test_a_store_that_is_away_is_no_trouble(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/missing/s.db")
    store.save_lag([Bucket("a", "b", 1, 0, one(1))])
    assert store.lag("a", "b") == []
