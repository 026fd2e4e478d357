"""The JSON API of a daemon: answers programs and the dashboard, and takes commands.

``app.py`` decides which requests are allowed. A command runs in a thread of its own, because a
command waits for transactions in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from drc import __version__
from drc.errors import ConfigError, DrcError, TransientError
from drc.monitor.document import DaemonSnapshot
from drc.web.body import Body
from drc.web.openapi import document as openapi

if TYPE_CHECKING:
    from drc.control.control import Control

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_EVENT_S = 1.0
_LIMIT_MAX = 1000
_BODY_MAX = 1 << 20

Ask = Callable[[], "Control | None"]
Guard = Callable[[Request], Response | None]


class UnavailableError(TransientError):
    """The site does not run yet: another daemon has the lease, or a server does not answer."""


@dataclass(frozen=True, slots=True)
class Served:
    """The site of a daemon, as the API sees the site.

    :param ask: returns the control of the running site, None before the site runs.
    """

    pair: str
    site: str
    ask: Ask

    def control(self) -> Control:
        """Return the control of the running site.

        :raises UnavailableError: the site does not run yet.
        """
        if (found := self.ask()) is None:
            raise UnavailableError(
                f"the daemon of {self.site} does not replicate yet",
                hint="check the daemon's log: another daemon may have the lease of this site, or a"
                " server does not answer",
            )
        return found

    def snapshot(self) -> DaemonSnapshot:
        """Return the present state of the site; before the site runs, there are no streams."""
        found = self.ask()
        return DaemonSnapshot(
            **(asdict(found.snapshot()) if found else {}),
            controls=found.desired() if found else {},
            pair=self.pair,
            site=self.site,
            version=__version__,
            now_us=time.time_ns() // 1000,
        )


Answer = Callable[[Served, Request], Awaitable[Any]]


def routes(served: Served, may_read: Guard, may_command: Guard) -> list[Route]:
    """Return the routes below ``/api/v1``, and the document that describes them.

    :param may_read: returns the refusal of a request, None if the request is allowed.
    :param may_command: the same for commands.
    """

    async def follow(request: Request) -> Response:
        return may_read(request) or StreamingResponse(
            _events(served), media_type="text/event-stream", headers=_HEADERS
        )

    return [
        Route("/api/v1/events", follow),
        *(
            Route(path, _answering(partial(read, served), may_read))
            for path, read in _READS.items()
        ),
        *(
            Route(path, _answering(partial(command, served), may_command), methods=["POST"])
            for path, command in _COMMANDS.items()
        ),
    ]


# ------------------------------------------------------------ reads


async def _events(served: Served) -> AsyncIterator[str]:
    while True:
        yield f"data: {msgspec.json.encode(served.snapshot()).decode()}\n\n"
        await asyncio.sleep(_EVENT_S)


async def _snapshot(served: Served, _request: Request) -> Any:
    return served.snapshot()


async def _status(served: Served, _request: Request) -> Any:
    from drc.monitor.status import collect

    here = served.control()
    return await run_in_threadpool(collect, here.config, here.store)


async def _lag(served: Served, request: Request) -> Any:
    asked = request.query_params
    here, since_us = served.control(), _number(request, "since_us", 0)
    target = asked.get("target", served.site)
    rows = await run_in_threadpool(here.store.lag, asked.get("origin", ""), target, since_us)
    return {"buckets": rows}


async def _conflicts(served: Served, request: Request) -> Any:
    from drc.desk import entries

    here, limit = served.control(), _number(request, "limit", 100)

    def read() -> list[dict[str, Any]]:
        return list(islice(entries.read(here.config, served.site, entries.Filter(), limit), limit))

    return {"conflicts": await run_in_threadpool(read)}


async def _audit(served: Served, request: Request) -> Any:
    limit = _number(request, "limit", 30)
    return {"entries": await run_in_threadpool(served.control().store.noted, limit)}


async def _describe(served: Served, _request: Request) -> Any:
    return openapi(served.pair, served.site)


_READS: dict[str, Answer] = {
    "/api/v1/snapshot": _snapshot,
    "/api/v1/status": _status,
    "/api/v1/lag": _lag,
    "/api/v1/conflicts": _conflicts,
    "/api/v1/audit": _audit,
    "/openapi.json": _describe,
}


# ------------------------------------------------------------ commands


async def _act(served: Served, request: Request) -> Any:
    body, here = await _body(request), served.control()
    origin, action = request.path_params["origin"], request.path_params["action"]
    return await run_in_threadpool(here.command, origin, action, _author(request, body))


async def _reposition(served: Served, request: Request) -> Any:
    body, here = await _body(request), served.control()
    if body.to is None:
        raise ConfigError(
            "the body is not valid: `to` is missing", hint="set `to`; /openapi.json has the fields"
        )
    return await run_in_threadpool(
        here.reposition,
        request.path_params["origin"],
        body.to,
        _author(request, body),
        dry_run=body.dry_run,
        force=body.force,
    )


async def _skip(served: Served, request: Request) -> Any:
    body, here = await _body(request), served.control()
    origin = request.path_params["origin"]
    return await run_in_threadpool(here.skip, origin, body.gtids, _author(request, body))


async def _reload(served: Served, request: Request) -> Any:
    body, here = await _body(request), served.control()
    return await run_in_threadpool(here.reload, _author(request, body))


_STREAM = "/api/v1/streams/{origin}"
_COMMANDS: dict[str, Answer] = {
    f"{_STREAM}/reposition": _reposition,
    f"{_STREAM}/skip": _skip,
    f"{_STREAM}/{{action}}": _act,  # the last route of a stream: the first match counts
    "/api/v1/reload": _reload,
}


# ------------------------------------------------------------ parts


def _answering(
    answer: Callable[[Request], Awaitable[Any]], guard: Guard
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that asks the guard first and answers errors as JSON."""

    async def endpoint(request: Request) -> Response:
        if refused := guard(request):
            return refused
        try:
            encoded = msgspec.json.encode(await answer(request))
            return Response(encoded, media_type="application/json", headers=_HEADERS)
        except DrcError as error:
            body = {"kind": type(error).__name__, "message": error.message, **error.fields()}
            return JSONResponse({"error": body}, _status_code(error), headers=_HEADERS)

    return endpoint


def _status_code(error: DrcError) -> int:
    from drc.control.control import UnknownStreamError

    if isinstance(error, UnknownStreamError):
        return 404
    if isinstance(error, UnavailableError):
        return 503
    return 422 if isinstance(error, ConfigError) else 409


async def _body(request: Request) -> Body:
    """Return the body of a command.

    :raises ConfigError: the body is too long or not valid JSON of :class:`~drc.web.body.Body`.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _BODY_MAX:
            raise ConfigError("the body is too long", hint=f"send at most {_BODY_MAX} bytes")
    try:
        return msgspec.json.decode(bytes(raw) or b"{}", type=Body)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"the body is not valid: {error}", hint="check the fields in /openapi.json"
        ) from error


def _author(request: Request, body: Body) -> Any:
    from drc.control.control import Author

    place = request.client.host if request.client else "?"
    return Author(f"{body.actor or 'api'} from {place}", body.reason)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(
            f"{name} is not a valid number: {text!r}", hint="check the parameters in /openapi.json"
        )
    return int(text) if name == "since_us" else min(int(text), _LIMIT_MAX)
