"""The API of a daemon as an OpenAPI 3.1 document. Pure."""

from __future__ import annotations

from typing import Any

from drc import __version__

_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}
_REASON = {"reason": {**_TEXT, "description": "goes into the audit"}, "actor": _TEXT}
_ORIGIN = {"name": "origin", "in": "path", "required": True, "schema": _TEXT}
_ACTIONS = {
    "pause": "Commit what is in flight, then hold until resumed.",
    "resume": "Go on.",
    "stop": "As pause, for longer: nobody expects the stream to be near.",
    "start": "Go on, also after an error that stopped the stream.",
    "restart": "End the session and begin another one.",
}
_REFUSALS = {
    "401": "no token, or a wrong one",
    "403": "a foreign origin or host; or an order, where no token is configured",
    "503": "the daemon does not replicate yet",
}
_NOT_DONE = {
    "404": "nothing comes from this origin",
    "409": "it would do harm, or cannot be done now",
    "415": "the body is not application/json",
    "422": "the body is wrong",
}


def _query(**names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in names.items()]


def _answers(*more: dict[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {"200": {"description": "done", "content": {"application/json": {}}}}
    for refusals in (_REFUSALS, *more):
        out.update({code: {"description": text} for code, text in refusals.items()})
    return out


def _read(summary: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": _answers()}}


def _order(summary: str, *, path: bool = True, **fields: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {**fields, **_REASON},
        "additionalProperties": False,
    }
    return {
        "post": {
            "summary": summary,
            "parameters": [_ORIGIN] if path else [],
            "requestBody": {"content": {"application/json": {"schema": schema}}},
            "responses": _answers(_NOT_DONE),
        }
    }


def document(pair: str, site: str) -> dict[str, Any]:
    """Return the document for the daemon of a site."""
    stream = "/api/v1/streams/{origin}"
    orders = {f"{stream}/{name}": _order(text) for name, text in _ACTIONS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"drc, {pair}, {site}",
            "version": __version__,
            "description": "The daemon of one site. Streams are named by their origin.",
        },
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/api/v1/snapshot": _read("What the daemon has to tell of this moment."),
            "/api/v1/events": _read("The same each second, as text/event-stream."),
            "/api/v1/status": _read("How far each stream is, asked of the servers."),
            "/api/v1/lag": _read(
                "How lag was.", _query(origin="string", target="string", since_us="integer")
            ),
            "/api/v1/conflicts": _read("The newest conflicts.", _query(limit="integer")),
            "/api/v1/audit": _read("What operators did.", _query(limit="integer")),
            **orders,
            f"{stream}/reposition": _order(
                "Go on from another place; with dry_run: what that would mean.",
                to={**_TEXT, "description": "a GTID set, a time, or an offset of the topic"},
                dry_run=_FLAG,
                force=_FLAG,
            ),
            f"{stream}/skip": _order("Give up on transactions.", gtids=_TEXT),
            "/api/v1/reload": _order("Take up the configuration file as it is now.", path=False),
        },
    }
