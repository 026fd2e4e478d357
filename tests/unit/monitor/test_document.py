"""The status documents: the JSON of release 0.1.0, a reader of other releases, and the page."""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import Struct, structs
from msgspec.structs import replace

from drc import config as configuration
from drc import mysql
from drc.config import WebConfig
from drc.control.control import Control
from drc.errors import DataError, TransientError
from drc.gtid import GtidSet, format_uuid
from drc.monitor import document
from drc.monitor.document import (
    DaemonReport,
    DaemonSnapshot,
    Desired,
    SiteReport,
    Status,
    StreamReport,
)
from drc.monitor.status import SiteStatus, combine
from drc.schema.facts import LedgerFacts
from drc.site.site import Site
from drc.state.store import Store
from drc.web.app import build_app
from drc.web.openapi import document as openapi
from drc.worker import snapshot as snapshots
from drc.worker.progress import Observed, PublisherProgress
from drc.worker.snapshot import (
    Alert,
    Behind,
    CanarySnapshot,
    ErrorFields,
    Hold,
    PublisherSnapshot,
    Rates,
    SavedSnapshot,
    Snapshot,
    Spread,
    Stages,
    StreamSnapshot,
    WatcherSnapshot,
)
from drc.worker.stages import Passage
from drc.worker.wanted import Wanted
from tests.unit.web.test_app import ask

ROOT = Path(__file__).parents[3]
CONTRACT: dict[str, Any] = json.loads(Path(__file__).with_name("contract-0.1.0.json").read_text())
PAGE = (ROOT / "docs/operations/status-json.md").read_text()
UUID_A, UUID_B = b"\xaa" * 16, b"\xbb" * 16
A, B = format_uuid(UUID_A), format_uuid(UUID_B)
ACCOUNT = {"user": "u", "password_env": "X"}
CONFIG = configuration.parse(
    {
        "name": "shop",
        "monitor": {"canary_s": 5},
        "sites": {n: {"host": n, "source": ACCOUNT, "applier": ACCOUNT} for n in "ab"},
    },
    Path("/"),
)
NOW = 1_000_000_000
TYPES = (
    Alert, Behind, CanarySnapshot, DaemonReport, DaemonSnapshot, Desired, ErrorFields, Hold,
    PublisherSnapshot, Rates, SiteReport, Spread, Stages, Status, StreamReport, StreamSnapshot,
    WatcherSnapshot,
)  # fmt: skip


class Hints:
    """A checkpoint store in which an operator has paused the stream."""

    def wanted(self, _site: str) -> dict[str, Wanted]:
        return {"a": Wanted("paused", "a dump")}

    def save_revision(self, *_: object) -> None: ...


def running() -> Any:
    """Return a site at work, as far as readers look; every number is different."""
    hints: Any = Hints()
    site: Any = Site(CONFIG, "b", threading.Event(), hints)
    stream = site.streams["a"].progress
    stream.connecting()
    stream.state, stream.reason = "running", ""
    stream.transactions, stream.rows_in, stream.rows_applied, stream.steps = 11, 12, 13, 14
    stream.lock_failures, stream.awaited, stream.taken_apart, stream.concurrent = 15, 16, 17, 18
    stream.updated_us, stream.decided_by_sessions = 19, f"{A}:1-9"
    stream.conflicts.update({"insert_exists": 2})
    stream._lags.extend([100, 200])
    stream.passages.add(Passage(7, 3, None, None, 1, 3))
    stream._inlet = SimpleNamespace(
        skipped=21,
        read_bytes=22,
        queue=SimpleNamespace(bytes=23),
        repeated=24,
        counts={"accepted": 25, "torn": 26},
    )
    stream._applier = SimpleNamespace(pending=27)
    stream._canary._sent_us, stream._canary._landed_us, stream._canary._bounced = 31, 32, 1
    stream.observed = Observed(
        behind=Behind(1.5, 3, 400),
        rates=Rates(transactions=1.5, rows=2.5, bytes=3.5),
        blocked=Hold(since_us=41, what="lock", sentence="waits", command="KILL 1"),
        observed_us=42,
    )
    watcher = site.watcher.progress
    watcher.transactions, watcher.replicated, watcher.unwatched = 51, 52, 53
    watcher.stopped(DataError("no row", table="shop.t", gtid="u:7", hint="fix it", site="b"))
    publisher: Any = PublisherProgress("b")
    queue = SimpleNamespace(bytes=63)
    publisher.running(SimpleNamespace(skipped=61, read_bytes=62, queue=queue), 64)
    publisher.steps, publisher.covered, publisher.transactions = 65, f"{B}:1-4", 66
    publisher._lags.extend([500, 700])
    site._publisher = SimpleNamespace(progress=publisher, name="publisher")
    alert = Alert("a->b/blocked", "page", "b", "a->b", 71, "why", "do")
    site._alerts._known["x"] = SimpleNamespace(posted_us=1, alert=alert)
    return site


def said() -> Snapshot:
    found: Snapshot = running().snapshot()
    return replace(found, updated_us=81, cpu_us=82, rss_bytes_max=83)


def status() -> Status:
    facts = mysql.ServerFacts(
        version=(9, 7, 4),
        version_text="9.7.4",
        server_uuid=UUID_B,
        server_id=1,
        gtid_executed=GtidSet.parse(f"{B}:1-4"),
        gtid_purged=GtidSet(),
        read_only=False,
        has_tags=True,
    )
    sites = {
        "a": SiteStatus(error=TransientError("gone", hint="start it")),
        "b": SiteStatus(facts, {"a": LedgerFacts(GtidSet.parse(f"{A}:1-7"), 4)}),
    }
    saved = SavedSnapshot(**structs.asdict(said()), saved_us=NOW - 1_000_000)
    return combine(CONFIG, sites, {"b": saved}, NOW)


# ------------------------------------------------------------ the contract


def test_a_snapshot_and_a_status_are_the_json_of_0_1_0() -> None:
    assert msgspec.to_builtins(said()) == CONTRACT["snapshot"]
    assert msgspec.to_builtins(status()) == CONTRACT["status"]


def test_the_api_answers_the_json_of_0_1_0() -> None:
    control = Control(Path("/"), CONFIG, running(), Hints())  # type: ignore[arg-type]
    for found, key in ((control, "api"), (None, "api_before")):
        app = build_app(WebConfig(), "shop", "b", lambda one=found: one)  # type: ignore[misc]
        code, text = ask(app, "/api/v1/snapshot", host="127.0.0.1")
        answer, wanted = json.loads(text), CONTRACT[key]
        moving = {name: wanted[name] for name in MOVING if name in wanted}
        assert (code, {**answer, **moving}) == (200, wanted)
        assert answer.keys() == wanted.keys()


MOVING = ("now_us", "updated_us", "cpu_us", "rss_bytes_max", "version")


def test_the_store_returns_the_snapshot_that_was_saved(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    store.save_status("b", said())
    found = store.statuses()["b"]
    assert found == SavedSnapshot(**structs.asdict(said()), saved_us=found.saved_us)


# ------------------------------------------------------------ other releases


def strange(value: Any) -> Any:
    """Return a document as a newer release might write the document: with unknown keys."""
    if isinstance(value, dict):
        return {**{k: strange(v) for k, v in value.items()}, "of_a_newer_release": {"x": [1]}}
    return [strange(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", [Snapshot, Status, DaemonSnapshot])
def test_a_newer_release_may_say_more_and_an_older_one_less(kind: type[Struct]) -> None:
    known = {Snapshot: "snapshot", Status: "status", DaemonSnapshot: "api"}[kind]
    text = json.dumps(CONTRACT[known])
    read = msgspec.json.decode(text, type=kind)
    assert msgspec.to_builtins(read) == CONTRACT[known]
    more = strange(CONTRACT[known])
    for counts in (more.get("streams", [{}])[0], more.get("streams", [{}])[-1].get("snapshot", {})):
        for key in ("conflicts", "frames"):  # counts by kind and fate, to which a release may add
            counts.get(key, {})["of_a_newer_release"] = 1
    for names in (more.get("sites", {}), more.get("controls", {})):
        names.pop("of_a_newer_release", None)  # the keys are names of sites and streams
    assert msgspec.json.decode(json.dumps(more), type=kind)
    stream = {"origin": "a", "target": "b", "state": "running"}
    less = msgspec.json.decode(json.dumps({"streams": [stream]}), type=kind)
    assert msgspec.to_builtins(less)["streams"][0].items() >= stream.items()
    assert msgspec.json.decode(b"{}", type=kind)


def test_a_status_that_cannot_be_read_counts_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    monkeypatch.setattr(msgspec, "to_builtins", lambda _: {"streams": 7})
    store.save_status("a", said())
    monkeypatch.undo()
    store.save_status("b", said())
    assert list(store.statuses()) == ["b"]


# ------------------------------------------------------------ the description of the document


def test_every_field_has_a_description_of_one_line() -> None:
    for kind in TYPES:
        for field in structs.fields(kind):
            (meta,) = field.type.__metadata__
            assert re.fullmatch(r"[^\n]{5,90}", meta.description), (kind, field.name)


def test_the_api_describes_each_type() -> None:
    found = openapi("shop", "b")
    schemas = found["components"]["schemas"]
    assert set(schemas) == {kind.__name__ for kind in TYPES}
    for path, name in (("snapshot", "DaemonSnapshot"), ("status", "Status")):
        answer = found["paths"][f"/api/v1/{path}"]["get"]["responses"]["200"]
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
    text = json.dumps(found)
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(schemas)


def fields(kind: type[Struct]) -> set[str]:
    return {field.encode_name for field in structs.fields(kind)}


def documented() -> dict[str, set[str]]:
    """Return the names in the first column of the page's tables, by title of the table."""
    out: defaultdict[str, set[str]] = defaultdict(set)
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        title, _, *cells = (line.split("|")[1] for line in table.splitlines())
        out[title.replace("`", "").strip()] |= set(re.findall(r"`([^`]+)`", " ".join(cells)))
    return out


def test_the_page_has_each_field_and_no_other() -> None:
    sections: dict[str, type[Struct]] = {
        "document": Status,
        "sites.NAME": SiteReport,
        "sites.NAME.daemon": DaemonReport,
        "sites.NAME.daemon.publisher": PublisherSnapshot,
        "sites.NAME.daemon.watcher": WatcherSnapshot,
        "streams[]": StreamReport,
        "streams[].snapshot": StreamSnapshot,
        "lag_us and each of stages": Spread,
        "stages": Stages,
        "behind": Behind,
        "rates": Rates,
        "blocked": Hold,
        "canary": CanarySnapshot,
        "error": ErrorFields,
        "alerts[]": Alert,
        "/api/v1/snapshot": DaemonSnapshot,
        "controls.STREAM": Desired,
    }
    assert documented() == {heading: fields(kind) for heading, kind in sections.items()}
    public = {
        kind
        for module in (snapshots, document)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
    }
    bases = {base for kind in public for base in kind.__bases__}
    assert public - bases - {SavedSnapshot} == set(sections.values()) == set(TYPES)


def test_the_example_of_the_page_is_a_status() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(text)
    assert msgspec.to_builtins(msgspec.json.decode(text, type=Status)) == shown
