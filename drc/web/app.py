"""The web application of a daemon: routes, and the rules for access.

1. Every answer beyond "alive", "ready" and the empty page needs the token, if a token is
   configured. The token is compared in constant time, and read at each request, so that a new
   token needs no restart.
2. A request is refused when the rules cannot be checked: a token that cannot be read admits
   nobody.
3. A command needs a configured token and a JSON body, and never comes from the page of another
   site: the browser names the asking page (``Origin``) and the name of this host that the page
   used (``Host``).
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

    :param control: returns the control of the running site, None before the site runs.
    :param hosts: host names that requests may use, beside addresses and the names of this machine.
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
                403,
                "commands need a token",
                "set web.token_file or web.token_env, and restart the daemon",
            )
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refused(
                415, "the body of a command is not JSON", "set content-type: application/json"
            )
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
    """Return the state of each stream, publisher and watcher; {} before the site runs."""
    if said is None:
        return {}
    states = {f"{s.origin}->{s.target}": s.state for s in said.streams}
    others = {"publisher": said.publisher, "watcher": said.watcher}
    return states | {name: other.state for name, other in others.items() if other}


def _refusal(web: WebConfig, request: Request) -> Response | None:
    """Return the refusal of a request without the right token, None if the token is right."""
    try:
        token = web.token()
    except ConfigError as error:
        log.error(error.message, **error.fields())
        return _refused(
            503, "cannot read the token of this daemon", "check the daemon's log for the reason"
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode())
    if not token or (right and scheme.lower() == "bearer"):
        return None
    answer = _refused(401, "a token is needed", "set the header Authorization: Bearer TOKEN")
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _stranger(request: Request, known: set[str]) -> Response | None:
    """Return the refusal of a request that another site's page sends, None for other requests.

    A browser names the page that sends a request in the ``Origin`` header. The ``Host`` header has
    the name by which the page reached this daemon: a page may point a name of its own at this
    address.
    """
    host = request.headers.get("host", "")
    name = (urlsplit(f"//{host}").hostname or "").lower()
    if name not in known and not _is_address(name):
        hint = "use an address, or the name in web.listen or sites.NAME.listen"
        return _refused(403, f"{name!r} is not a name of this daemon", hint)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return _refused(
            403, f"a page of {origin} may not send requests here", "use the daemon's own page"
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
