"""The web application of a daemon: its routes, and who may ask.

1. Whatever tells more than "alive" and "running" asks for the token, if there is one. It is
   compared in constant time and read at each request, so it is replaced without a restart.
2. What cannot be decided is refused: a token that cannot be read lets nobody in.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

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

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger("drc.web")


def build_app(web: WebConfig, pair: str, site: str, snapshot: Callable[[], Any]) -> Starlette:
    """Return the application.

    :param snapshot: returns the daemon's snapshot of this moment, None before there is one.
    """
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
            *api.routes(pair, site, snapshot, lambda request: _refusal(web, request)),
            *page.routes(asks_token=bool(web.token_env or web.token_file)),
        ]
    )


def _states(said: dict[str, Any] | None) -> dict[str, str]:
    """Return the state of each stream, publisher and watcher; {} before there are any."""
    if said is None:
        return {}
    states = {f"{s['origin']}->{s['target']}": str(s["state"]) for s in said["streams"]}
    for other in ("publisher", "watcher"):
        if said[other]:
            states[other] = str(said[other]["state"])
    return states


def _refusal(web: WebConfig, request: Request) -> Response | None:
    """Return what to answer those who may not ask, None to those who may."""
    try:
        token = web.token()
    except ConfigError as error:
        log.error(error.message, **error.fields())
        return PlainTextResponse("the token is not readable\n", 503, headers=_HEADERS)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode())
    if not token or (right and scheme.lower() == "bearer"):
        return None
    headers = {**_HEADERS, "WWW-Authenticate": "Bearer"}
    return PlainTextResponse("a token is needed\n", 401, headers=headers)
