"""The dashboard's files, out of the wheel; what they show, they ask the API for.

1. They hold no data, so anybody who reaches the port may load them; the API asks for the token.
2. Nothing is loaded from elsewhere, and nothing inline runs: the policy below has the browser
   refuse both, whatever a row's value holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # after an upgrade no browser mixes two versions
}
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def routes(*, asks_token: bool) -> list[Route]:
    """Return the page at ``/`` and its files under ``/page/``, read once.

    :param asks_token: the API does; the page then asks for it before it asks the API.
    """
    out = []
    for file in (resources.files("drc.web") / "page").iterdir():
        kind = _KINDS.get("." + file.name.rpartition(".")[2])
        if kind:
            body = file.read_bytes()
            if asks_token:
                body = body.replace(b'data-token="none"', b'data-token="asked"')
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            out.append(Route(path, _serve(body, kind)))
    return out


def _serve(body: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return Response(body, media_type=kind, headers=_HEADERS)

    return endpoint
