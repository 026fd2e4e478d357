"""OpenAPI 3.1 document of a daemon's API, with schemas from the types. Pure."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from drc import __version__
from drc.monitor.document import DaemonSnapshot, Status
from drc.web.body import Body

_REF = "#/components/schemas/{name}"
_ORIGIN = {"name": "origin", "in": "path", "required": True, "schema": {"type": "string"}}
_ACTIONS = {
    "pause": "Commit the transactions in flight, then hold the stream until `resume`.",
    "resume": "Let a paused stream go on.",
    "stop": "Hold the stream for longer than a pause.",
    "start": "Let a stopped stream go on, also after an error.",
    "restart": "End the session and begin the next session.",
}
_REFUSALS = {
    "401": "no token, or a wrong token",
    "403": "a foreign origin or host; or a command, where no token is configured",
    "503": "the daemon does not replicate yet",
}
_NOT_DONE = {
    "404": "no stream comes from this origin, or the command is unknown",
    "409": "the command would do harm, or is not possible now",
    "415": "the body is not application/json",
    "422": "the body is not valid",
}


def _query(**names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in names.items()]


@cache
def _schemas() -> dict[str, Any]:
    """Return the schemas of the typed answers, and of all types that the answers contain."""
    _, components = msgspec.json.schema_components((DaemonSnapshot, Status), ref_template=_REF)
    return components


@cache
def _properties() -> dict[str, Any]:
    """Return the schemas of the fields of all commands."""
    _, components = msgspec.json.schema_components((Body,))
    properties: dict[str, Any] = components[Body.__name__]["properties"]
    return properties


def _answers(*more: dict[str, str], kind: type | None = None) -> dict[str, Any]:
    content = {"schema": {"$ref": _REF.format(name=kind.__name__)}} if kind else {}
    out: dict[str, Any] = {"200": {"description": "done", "content": {"application/json": content}}}
    for refusals in (_REFUSALS, *more):
        out.update({code: {"description": text} for code, text in refusals.items()})
    return out


def _read(
    summary: str, parameters: list[dict[str, Any]] | None = None, *, kind: type | None = None
) -> dict[str, Any]:
    responses = _answers(kind=kind)
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": responses}}


def _command(summary: str, *fields: str, path: bool = True) -> dict[str, Any]:
    """Return the description of a command.

    :param fields: fields of the body beside reason and actor, such as ``gtids``.
    :param path: whether the URL names an origin.
    """
    properties = _properties()
    schema = {
        "type": "object",
        "properties": {name: properties[name] for name in (*fields, "reason", "actor")},
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
    """Return the OpenAPI document for the daemon of a site."""
    stream = "/api/v1/streams/{origin}"
    commands = {f"{stream}/{name}": _command(text) for name, text in _ACTIONS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"drc, {pair}, {site}",
            "version": __version__,
            "description": "The daemon of one site. Streams are named by their origin.",
        },
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
        "paths": {
            "/api/v1/snapshot": _read("The present state of the daemon.", kind=DaemonSnapshot),
            "/api/v1/events": _read("A snapshot each second, as text/event-stream."),
            "/api/v1/status": _read("The backlog of each stream, by the servers.", kind=Status),
            "/api/v1/lag": _read(
                "The history of lag.", _query(origin="string", target="string", since_us="integer")
            ),
            "/api/v1/conflicts": _read("The newest conflicts.", _query(limit="integer")),
            "/api/v1/audit": _read("The commands of operators.", _query(limit="integer")),
            **commands,
            f"{stream}/reposition": _command(
                "Go on from another place; with dry_run only report the consequences.",
                "to",
                "dry_run",
                "force",
            ),
            f"{stream}/skip": _command("Give up transactions.", "gtids"),
            "/api/v1/reload": _command("Read the configuration file again.", path=False),
        },
    }
