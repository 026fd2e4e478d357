"""What a daemon tells programs and its own page, as JSON; who may ask is the application's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from drc import __version__

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_EVENT_S = 1.0


def routes(
    pair: str, site: str, snapshot: Callable[[], Any], refusal: Callable[[Request], Response | None]
) -> list[Route]:
    """Return ``/api/v1/snapshot``, and ``/api/v1/events``: the same each second, for ever.

    :param refusal: returns what to answer those who may not ask, None to those who may.
    """

    def document() -> dict[str, Any]:
        said = snapshot() or {"streams": [], "publisher": None, "watcher": None}
        now_us = time.time_ns() // 1000
        who = {"pair": pair, "site": site, "version": __version__, "now_us": now_us}
        return {**said, **who, "controls": {}}

    async def once(request: Request) -> Response:
        return refusal(request) or JSONResponse(document(), headers=_HEADERS)

    async def events() -> AsyncIterator[str]:
        while True:
            yield f"data: {json.dumps(document())}\n\n"
            await asyncio.sleep(_EVENT_S)

    async def follow(request: Request) -> Response:
        return refusal(request) or StreamingResponse(
            events(), media_type="text/event-stream", headers=_HEADERS
        )

    return [Route("/api/v1/snapshot", once), Route("/api/v1/events", follow)]
