"""Page: serves the dashboard's files, which the wheel contains.

1. The files hold no data, so every client that reaches the port may load the files. The data
   comes from the API, which asks for the token.
2. The page loads nothing from other hosts and runs no inline script, even if a row's value is a
   script: the content security policy below makes the browser refuse both.
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
    "Cache-Control": "no-cache",  # so that no browser mixes two versions after an upgrade
}
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def routes(*, asks_token: bool) -> list[Route]:
    """Return the routes of the page, ``/``, and of the page's files, ``/page/…``; all read once.

    :param asks_token: whether the API asks for a token; the page then asks the user for the token
        before the first request.
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
