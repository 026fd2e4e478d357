"""The web application of a daemon: its routes, and who may ask.

1. Whatever tells more than "alive" and "running" asks for the token, if there is one. It is
   compared in constant time and read at each request, so it is replaced without a restart.
2. What cannot be decided is refused: a token that cannot be read lets nobody in.
3. Orders are taken only where a token is configured, only as JSON, and never for another page's
   sake: a browser says whose page asks, and under which name it found us.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from drc.config import WebConfig
from drc.errors import ConfigError
from drc.web import api, page
from drc.web.metrics import SiteCollector, registry
from drc.worker.snapshot import Snapshot

if TYPE_CHECKING:
    from drc.control.control import Control

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger("drc.web")


def build_app(
    web: WebConfig,
    pair: str,
    site: str,
    control: Callable[[], Control | None],
    hosts: tuple[str, ...] = (),
) -> Starlette:
    """Return the application.

    :param control: returns what tells of the running site, None before it runs.
    :param hosts: names under which we may be asked, beside addresses and this machine's own.
    """

    def snapshot() -> Snapshot | None:
        found = control()
        return found.snapshot() if found else None

    known = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    def may_read(request: Request) -> Response | None:
        return _stranger(request, known) or _refusal(web, request)

    def may_command(request: Request) -> Response | None:
        if refused := may_read(request):
            return refused
        if not (web.token_env or web.token_file):
            return _refused(
                403, "commands need a token", "set web.token_file or web.token_env, and start again"
            )
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refused(415, "a command is JSON", "send content-type: application/json")
        return None

    scraped = registry(SiteCollector(pair, site, snapshot))

    async def metrics(request: Request) -> Response:
        if refused := _refusal(web, request):
            return refused
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(scraped), media_type=kind, headers=_HEADERS)

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_HEADERS)

    async def ready(_request: Request) -> Response:
        states = _states(snapshot())
        ok = bool(states) and set(states.values()) == {"running"}
        document = {"ready": ok, "states": states}
        return JSONResponse(document, 200 if ok else 503, headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", alive),
            Route("/readyz", ready),
            *api.routes(api.Served(pair, site, control), may_read, may_command),
            *page.routes(asks_token=bool(web.token_env or web.token_file)),
        ]
    )


def _states(said: Snapshot | None) -> dict[str, str]:
    """Return the state of each stream, publisher and watcher; {} before there are any."""
    if said is None:
        return {}
    states = {f"{s.origin}->{s.target}": s.state for s in said.streams}
    others = {"publisher": said.publisher, "watcher": said.watcher}
    return states | {name: other.state for name, other in others.items() if other}


def _refusal(web: WebConfig, request: Request) -> Response | None:
    """Return what to answer those who may not ask, None to those who may."""
    try:
        token = web.token()
    except ConfigError as error:
        log.error(error.message, **error.fields())
        return _refused(503, "the token is not readable", "the daemon's log says why")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode())
    if not token or (right and scheme.lower() == "bearer"):
        return None
    answer = _refused(401, "a token is needed", "send it as Authorization: Bearer …")
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _stranger(request: Request, known: set[str]) -> Response | None:
    """Refuse what a page of somebody else has its reader's browser ask.

    Its address is in the Origin header; a name that it points at us is in the Host header.
    """
    host = request.headers.get("host", "")
    name = (urlsplit(f"//{host}").hostname or "").lower()
    if name not in known and not _is_address(name):
        hint = "ask by address, or by the name in web.listen or sites.NAME.listen"
        return _refused(403, f"this is not {name!r}", hint)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return _refused(
            403, f"a page of {origin} has no business here", "use the daemon's own page"
        )
    return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(status: int, message: str, hint: str) -> Response:
    body = {"error": {"message": message, "hint": hint}}
    return JSONResponse(body, status, headers=_HEADERS)
