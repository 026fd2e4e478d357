"""A daemon's API without a server: numbers move, commands are obeyed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import uvicorn
from msgspec import to_builtins
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from drc import __version__
from drc.monitor.document import (
    DaemonReport,
    DaemonSnapshot,
    Desired,
    SiteReport,
    Status,
    StreamReport,
)
from drc.sandbox.process import free_port
from drc.web import page
from drc.worker.snapshot import (
    Behind,
    CanarySnapshot,
    Hold,
    Rates,
    Spread,
    Stages,
    StreamSnapshot,
    WatcherSnapshot,
)

TOKEN = "of-the-test-0123456789"
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
_STATES = {"pause": "paused", "resume": "running", "stop": "stopped", "start": "running"}
_RATES = {"transactions": 412, "rows": 1236, "bytes": 370_000}
_UUIDS = {
    "shanghai": "e92af769-e753-11f1-a3bb-02fc00000001",
    "beijing": "11bf0000-e754-11f1-9c1d-02fc00000002",
}


class FakeDaemon:
    """The daemon of ``beijing``; ``changes`` override the daemon's own stream in every snapshot."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.changes: dict[str, Any] = {}
        self.controls: dict[str, Desired] = {}
        self.audit: list[dict[str, Any]] = []
        self.commands: list[tuple[str, str, dict[str, Any]]] = []
        self.deaf = threading.Event()  # if set, no request is answered, and events end
        self.state = "running"
        self._begun = time.time()
        self._paused = 0.0

    # ------------------------------------------------------------ documents

    def snapshot(self) -> dict[str, Any]:
        """Return the answer to ``/api/v1/snapshot``, with the changes made."""
        now_us = time.time_ns() // 1000
        said = DaemonSnapshot(
            pair="shop",
            site="beijing",
            version=__version__,
            now_us=now_us,
            updated_us=now_us,
            cpu_us=812_000_000,
            rss_bytes_max=91 << 20,
            alerts=[],
            controls=self.controls,
            streams=[self._stream("shanghai", "beijing", self.state)],
            watcher=WatcherSnapshot(state="running"),
        )
        out: dict[str, Any] = to_builtins(said)
        out["streams"][0] |= self.changes
        return out

    def _stream(self, origin: str, target: str, state: str) -> StreamSnapshot:
        now = time.time()
        wave = 1 + 0.4 * math.sin(now / 7 + len(origin)) + 0.15 * math.sin(now * 1.7)
        stages = {
            key: Spread(p50=int(us * wave), p99=int(us * wave * 3.1), p999=int(us * wave * 9))
            for key, us in (
                ("read_us", 900),
                ("received_us", 400),
                ("dispatched_us", 250),
                ("committed_us", 5200),
            )
        }
        sums = {p: sum(getattr(s, p) for s in stages.values()) for p in ("p50", "p99", "p999")}
        done = int((now - self._begun) * 412)
        waits = now - self._paused if state == "paused" else 0.0
        return StreamSnapshot(
            origin=origin,
            target=target,
            state=state,
            reason="" if state == "running" else "stopped by request",
            transactions=1_000_000 + done,
            rows_applied=3_000_000 + done * 3,
            read_bytes=(1 << 30) + done * 900,
            conflicts={"update_update": 3},
            lag_us_p50=sums["p50"],
            lag_us_p99=sums["p99"],
            applied_set=f"{_UUIDS[origin]}:1-{1_000_000 + done}",
            stages=Stages(**stages),
            lag_us=Spread(**sums),
            behind=Behind(waits, int(waits * 412), int(waits * 370_000)),
            blocked=None if state == "running" else self._blocked(origin, target, state),
            canary=CanarySnapshot(
                every_s=10.0,
                sent_us=int(now * 1e6) - 2_008_000,
                landed_us=int(now * 1e6) - 2_000_000,
            ),
            rates=Rates(
                **{key: each * wave * (state == "running") for key, each in _RATES.items()}
            ),
        )

    def _blocked(self, origin: str, target: str, state: str) -> Hold:
        verb = "resume" if state == "paused" else "start"
        return Hold(
            since_us=int(self._paused * 1e6),
            what=state,
            sentence=f"{state} by an operator",
            command=f"drc {verb} {origin} {target}",
        )

    def status(self) -> Status:
        """Return the answer to ``/api/v1/status``."""
        said = msgspec.convert(self.snapshot(), DaemonSnapshot)
        streams = [
            StreamReport(
                origin=one.origin,
                target=one.target,
                state=one.state,
                reason=one.reason,
                error=one.error,
                transactions_behind=one.behind.transactions,
                behind_set="",
                exact=True,
                ledger_applied=one.applied_set,
                ledger_seq=1717,
                snapshot=one,
                snapshot_fresh=True,
            )
            for one in (*said.streams, self._stream("beijing", "shanghai", "running"))
        ]
        sites = {name: self._site(name, said.now_us) for name in _UUIDS}
        return Status(name="shop", at_us=said.now_us, ok=True, sites=sites, streams=streams)

    def _site(self, name: str, now_us: int) -> SiteReport:
        return SiteReport(
            reachable=True,
            version="9.7.4",
            server_uuid=_UUIDS[name],
            read_only=False,
            gtid_executed=f"{_UUIDS[name]}:1-1000400",
            daemon=DaemonReport(fresh=True, saved_us=now_us - 300_000),
        )

    def conflicts(self) -> list[dict[str, Any]]:
        return [
            conflict(17, "open", "no rule may choose between two rows with one unique value", EVIL),
            conflict(16, "auto", "the later write stays", "lin@example.com"),
            conflict(15, "auto", "the later write stays", "***9f2c44ab01"),
        ]

    def buckets(self, since_us: int) -> list[dict[str, Any]]:
        now_us = time.time_ns() // 1000
        begin = max(since_us, now_us - 6 * 3600 * 1_000_000) // 10_000_000 * 10_000_000
        step = 10 if now_us - since_us < 3_700_000_000 else 120
        out = []
        for at in range(begin, now_us - 12_000_000, step * 1_000_000):
            wave = 1 + 0.35 * math.sin(at / 4e7) + (7 if 200e6 < now_us - at < 290e6 else 0)
            one = to_builtins(self._stream("shanghai", "beijing", "running"))
            scaled = {
                k: {p: v and int(v * wave) for p, v in s.items()} for k, s in one["stages"].items()
            }
            lag = {p: int(v * wave) for p, v in one["lag_us"].items()}
            rates = {"transactions": 412 * (1 + 0.3 * math.sin(at / 3e7))}
            out.append(
                {"at_us": at, "bucket_s": step, "stages": scaled, "lag_us": lag, "rates": rates}
            )
        return out

    # ------------------------------------------------------------ over HTTP

    def app(self) -> Starlette:
        """Return the application: the page and the API."""
        answers = {
            "snapshot": lambda _: self.snapshot(),
            "status": lambda _: to_builtins(self.status()),
            "conflicts": lambda _: {"conflicts": self.conflicts()},
            "audit": lambda _: {"entries": self.audit},
            "lag": lambda r: {"buckets": self.buckets(int(r.query_params.get("since_us", 0)))},
        }
        routes = [
            Route(f"/api/v1/{name}", self._guarded(answer)) for name, answer in answers.items()
        ]
        return Starlette(
            routes=[
                *page.routes(asks_token=bool(self.token)),
                *routes,
                Route("/api/v1/events", self._events),
                Route("/api/v1/streams/{origin}/{action}", self._order, methods=["POST"]),
            ]
        )

    def _refusal(self, request: Request) -> Response | None:
        if self.deaf.is_set():
            return JSONResponse({"error": "away"}, 503)
        given = request.headers.get("authorization", "")
        if self.token and given != f"Bearer {self.token}":
            return Response("a token is needed\n", 401, media_type="text/plain")
        return None

    def _guarded(self, answer: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            return self._refusal(request) or JSONResponse(answer(request))

        return endpoint

    async def _events(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused

        async def told() -> AsyncIterator[str]:
            while not self.deaf.is_set():
                yield f"data: {json.dumps(self.snapshot())}\n\n"
                await asyncio.sleep(1)

        return StreamingResponse(told(), media_type="text/event-stream")

    async def _order(self, request: Request) -> Response:
        if refused := self._refusal(request):
            return refused
        if not self.token:
            hint = "set web.token_file: who may look need not be allowed to stop replication"
            return JSONResponse({"error": {"message": "no token is set", "hint": hint}}, 403)
        origin, action = request.path_params["origin"], request.path_params["action"]
        body = await request.json()
        self.commands.append((origin, action, body))
        self.state = _STATES[action]
        self._paused = time.time()
        desired = Desired(desired=self.state, reason=body["reason"])
        self.controls = {f"{origin}->beijing": desired}
        entry = {
            "at_us": time.time_ns() // 1000,
            "actor": "token",
            "action": action,
            "subject": f"{origin}->beijing",
            "reason": body["reason"],
            "detail": {},
        }
        self.audit.insert(0, entry)
        answer = {"stream": f"{origin}->beijing", "state": self.state, "desired": self.state}
        return JSONResponse(answer)


def conflict(number: int, state: str, reason: str, email: str) -> dict[str, Any]:
    """Return an entry in the form of docs/operations/conflicts-json.md."""
    row = {"id": 4711 + number, "email": email, "updated": "2026-11-24T03:12:09"}
    return {
        "site": "beijing",
        "id": number,
        "detected_at": f"2026-11-24T03:{number}:09.120000Z",
        "table": "shop.customer",
        "row_key": f"{4711 + number} {email[:20]}",
        "kind": "multiple_unique_conflicts" if state == "open" else "update_origin_differs",
        "policy": "last_writer_wins",
        "winner": "open" if state == "open" else "remote",
        "state": state,
        "reason": reason,
        "origin": "shanghai",
        "gtid": f"{_UUIDS['shanghai']}:88{number}",
        "rivals": [],
        "rival_count": 1,
        "row_local": {**row, "email": "old@example.com"},
        "row_before": row,
        "row_after": row,
        "settled_at": None,
        "settled_by": None,
        "settlement": None,
    }


@contextlib.contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve an application on this machine until the block ends; yield its address."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, ws="none", log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
