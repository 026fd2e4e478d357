"""HTTP of a daemon: every number of a snapshot, no data, and only with the right token."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from msgspec import structs, to_builtins
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from drc.config import WebConfig
from drc.errors import DataError
from drc.web.app import build_app
from drc.web.metrics import STATES, SiteCollector, registry
from drc.worker.progress import StreamProgress
from drc.worker.snapshot import (
    Behind,
    CanarySnapshot,
    PublisherSnapshot,
    Snapshot,
    Spread,
    Stages,
    StreamSnapshot,
    WatcherSnapshot,
    WorkerSnapshot,
)
from drc.worker.stages import QUANTILES
from drc.worker.stages import STAGES as STAGES_OF_LAG

ROOT = Path(__file__).parents[3]
TOKEN = "0123456789abcdef-right"
S = TypeVar("S", bound=WorkerSnapshot)


def snapshot(**stream: Any) -> Snapshot:
    """Return a snapshot in which every number is different."""
    numbers = iter(range(1000, 9999))

    def filled(kind: type[S], **fields: Any) -> S:
        # Each field type is Annotated, whose `__origin__` is the plain type.
        ints = [f.name for f in structs.fields(kind) if f.type.__origin__ is int]
        counts = {name: next(numbers) for name in ints}
        return kind(**{**counts, **fields})

    def spread() -> Spread:
        return Spread(**{key: next(numbers) for key in QUANTILES})

    one = filled(
        StreamSnapshot,
        **{"origin": "a", "target": "b", "state": "running", **stream},
        frames={"accepted": next(numbers), "torn": next(numbers)},
        lag_us=spread(),
        stages=Stages(**{f"{stage}_us": spread() for stage in STAGES_OF_LAG}),
        behind=Behind(next(numbers), next(numbers), next(numbers)),
        canary=CanarySnapshot(
            sent_us=next(numbers), landed_us=next(numbers), bounced=next(numbers)
        ),
        conflicts={"insert_exists": next(numbers), "update_missing": next(numbers)},
    )
    publisher = filled(PublisherSnapshot, site="b", state="running")
    watcher = filled(WatcherSnapshot, site="b", state="running")
    return Snapshot(streams=[one], publisher=publisher, watcher=watcher)


NOT_METRICS = {"every_s", "rates"}  # a setting; and rates, which counters give


def numbers(worker: WorkerSnapshot | None) -> Counter[float]:
    return _numbers(to_builtins(worker))


def _numbers(said: dict[str, Any], *, us: bool = False) -> Counter[float]:
    out: Counter[float] = Counter()
    for key, value in said.items():
        if key in NOT_METRICS:
            continue
        if isinstance(value, dict):
            out += _numbers(value, us="_us" in key)
        elif isinstance(value, int):
            out[round(value / 1e6 if us or "_us" in key else value, 6)] += 1
    return out


def samples(said: Snapshot | None) -> list[Any]:
    text = generate_latest(registry(SiteCollector("shop", "b", lambda: said))).decode()
    return [s for f in text_string_to_metric_families(text) for s in f.samples]


def test_every_number_of_a_snapshot_is_one_metric() -> None:
    said = snapshot()
    wanted = numbers(said.streams[0]) + numbers(said.publisher) + numbers(said.watcher)
    assert len(wanted) == wanted.total() > 60
    found = Counter(round(s.value, 6) for s in samples(said))
    assert wanted == Counter({n: c for n, c in found.items() if n in wanted})


def test_names_are_those_of_the_reference() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text()
    documented = re.findall(r"^\| `(drc_\w+)` \| (\w+)", text, re.MULTILINE)
    families = list(SiteCollector("shop", "b", snapshot).collect())
    told = [(f.name + "_total" * (f.type == "counter"), f.type) for f in families]
    assert sorted(documented) == sorted(told)


def test_exactly_one_state_is_present() -> None:
    for state in STATES:
        said = {
            s.labels["state"]: s.value
            for s in samples(snapshot(state=state))
            if s.name == "drc_stream_state"
        }
        assert said == {**dict.fromkeys(STATES, 0), state: 1}


def test_a_stop_by_an_operator_is_no_failure() -> None:
    by_operator, by_error = StreamProgress("a", "b"), StreamProgress("a", "b")
    by_operator.not_running("stopped", "maintenance")
    by_error.stopped(DataError("row is gone"))
    for progress, failed in ((by_operator, 0), (by_error, 1)):
        said = progress.snapshot()
        assert said.state == "stopped"
        found = samples(Snapshot(streams=[said]))
        assert [s.value for s in found if s.name == "drc_stream_failed"] == [failed]


def test_there_are_metrics_before_there_is_a_snapshot() -> None:
    assert [s.name for s in samples(None) if s.name.startswith("drc_")] == ["drc_build_info"]


def test_errors_and_names_of_rows_stay_inside() -> None:
    error = DataError("row 'secret@example.com' is there", table="shop.users", gtid="u:7")
    progress = StreamProgress("a", "b")
    progress.stopped(error)
    said = Snapshot(streams=[progress.snapshot()])
    app = build_app(WebConfig(), "shop", "b", running(said))
    for path in ("/metrics", "/readyz", "/healthz"):
        _, body = ask(app, path)
        assert not re.search(r"secret|users|u:7", body), path


# ------------------------------------------------------------ over HTTP


def running(said: Snapshot | None) -> Any:
    """Return a getter of the running site: an object with a snapshot, or None before that."""
    return lambda: said and SimpleNamespace(snapshot=lambda: said)


def ask(
    app: Any, path: str, authorization: str | None = None, *, host: str = ""
) -> tuple[int, str]:
    """Send a GET to the application, without a socket; return status and body."""
    said = {"authorization": authorization or "", "host": host}
    headers = [(name.encode(), value.encode()) for name, value in said.items() if value]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]).decode()


def test_metrics_ask_for_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRC_TOKEN", TOKEN)
    app = build_app(WebConfig(token_env="DRC_TOKEN"), "shop", "b", running(snapshot()))
    for wrong in (None, TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN[:-1]}", "Bearer é"):
        assert ask(app, "/metrics", wrong)[0] == 401, wrong
    status, body = ask(app, "/metrics", f"Bearer {TOKEN}")
    assert (status, "drc_stream_state" in body) == (200, True)
    assert ask(app, "/healthz")[0] == ask(app, "/readyz")[0] == 200


def test_a_new_token_counts_at_once_and_an_unreadable_one_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "token"
    app = build_app(WebConfig(token_file=str(file)), "shop", "b", running(snapshot()))
    assert ask(app, "/metrics", "Bearer ")[0] == 503
    file.touch(mode=0o600)
    file.write_text(TOKEN)
    assert ask(app, "/metrics", f"Bearer {TOKEN}")[0] == 200
    file.write_text(TOKEN[::-1])
    assert ask(app, "/metrics", f"Bearer {TOKEN}")[0] == 401
    file.chmod(0o644)
    assert ask(app, "/metrics", f"Bearer {TOKEN[::-1]}")[0] == 503


def test_without_a_token_anybody_who_reaches_it_may_ask() -> None:
    assert ask(build_app(WebConfig(), "shop", "b", running(snapshot())), "/metrics")[0] == 200


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (None, 503),
        (snapshot(), 200),
        (snapshot(state="connecting"), 503),
        (replace(snapshot(), publisher=PublisherSnapshot(state="stopped")), 503),
        (replace(snapshot(), watcher=WatcherSnapshot(state="connecting")), 503),
        (replace(snapshot(), publisher=None, watcher=None), 200),
    ],
)
def test_ready_is_when_everything_runs(said: Snapshot | None, status: int) -> None:
    found, body = ask(build_app(WebConfig(), "shop", "b", running(said)), "/readyz")
    assert (found, json.loads(body)["ready"]) == (status, status == 200)


def test_nothing_of_it_is_loaded_by_a_daemon_that_does_not_listen() -> None:
    loaded = "import drc.cli.run, drc.site.site, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT)
    modules = set(done.stdout.split())
    assert "drc.site.site" in modules
    assert not {"uvicorn", "starlette", "prometheus_client"} & modules
