"""The client of a daemon's HTTP API: reads snapshots and sends commands. Edge."""

from __future__ import annotations

import contextlib
import getpass
import json
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from drc.config import Config
from drc.errors import ConfigError, DrcError, TransientError
from drc.monitor.document import DaemonSnapshot

_LISTEN_HINT = 'set web.listen = "127.0.0.1:9464" and start the daemons again'
_TIMEOUT_S = 5.0
_COMMAND_TIMEOUT_S = 60.0  # transactions in flight may have to commit first
_KINDS: dict[int, type[DrcError]] = {404: ConfigError, 422: ConfigError, 503: TransientError}
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # listening address: our address


@dataclass(frozen=True, slots=True)
class Daemon:
    """The API of a single daemon.

    :param url: such as ``http://127.0.0.1:9464``.
    :param token: '' for a daemon without a token.
    """

    url: str
    token: str = ""

    def snapshot(self) -> DaemonSnapshot:
        """Return the present state of the daemon.

        :raises TransientError: the daemon does not answer.
        :raises DrcError: the daemon refuses, or this release cannot read the answer.
        """
        text = self._ask("GET", "/api/v1/snapshot")
        try:
            return msgspec.json.decode(text, type=DaemonSnapshot)
        except msgspec.DecodeError as error:
            raise DrcError(
                f"cannot read the snapshot of {self.url}: {error}",
                hint="run the daemon's release of drc on this machine",
            ) from error

    def command(self, origin: str, action: str, reason: str, **more: Any) -> dict[str, Any]:
        """Send a command for the stream from ``origin``; return the daemon's answer.

        :param action: a command of docs/operations/control.md, such as ``pause``.
        :param more: further fields of the command, such as ``gtids`` of ``skip``.
        :raises DrcError: as :meth:`snapshot`.
        """
        path = f"/api/v1/streams/{quote(origin, safe='')}/{quote(action, safe='')}"
        return self._post(path, {"reason": reason, **more})

    def reload(self, reason: str) -> dict[str, Any]:
        """Let the daemon read its configuration file again; return the keys that changed.

        :raises DrcError: as :meth:`snapshot`.
        """
        return self._post("/api/v1/reload", {"reason": reason})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._ask("POST", path, {"actor": _operator(), **body}))
        return answer

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        place = urlsplit(self.url)
        kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
        timeout = _TIMEOUT_S if body is None else _COMMAND_TIMEOUT_S
        with contextlib.closing(kind(place.netloc, timeout=timeout)) as conn:
            try:
                conn.request(method, path, json.dumps(body) if body is not None else None, headers)
                answer = conn.getresponse()
                text = answer.read().decode("utf-8", "replace")
            except (OSError, HTTPException) as error:
                hint = "check that `drc run` runs there and that web.listen has this address"
                raise TransientError(f"{self.url} does not answer: {error}", hint=hint) from error
        if answer.status != 200:
            raise self._refused(answer.status, text)
        return text

    def _refused(self, status: int, text: str) -> DrcError:
        if status == 401:
            return ConfigError(
                f"{self.url} asks for another token",
                hint="set web.token_file or web.token_env to the token of the daemon",
            )
        message, hint = text.strip()[:300], ""
        with contextlib.suppress(ValueError, AttributeError):
            said = json.loads(text).get("error")
            message = said["message"] if isinstance(said, dict) else str(said)
            hint = said.get("hint", "") if isinstance(said, dict) else ""
        kind = _KINDS.get(status, DrcError)
        return kind(f"{self.url} refuses, status {status}: {message}", hint=hint)


def _operator() -> str:
    """Return the author of commands, such as ``root@db7``; the daemon adds the address."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def daemons(config: Config) -> list[Daemon]:
    """Return the daemons that the configuration names.

    :raises ConfigError: no daemon listens, or the token cannot be read.
    """
    listening = [name for name in config.sites if config.listen(name)]
    if not listening:
        raise ConfigError("no daemon of this pair listens on a port", hint=_LISTEN_HINT)
    return list(dict.fromkeys(daemon_of(config, name) for name in listening))


def daemon_of(config: Config, site: str) -> Daemon:
    """Return the daemon of a site.

    :raises ConfigError: as :func:`daemons`.
    """
    address = config.listen(site)
    if address is None:
        raise ConfigError(f"the daemon of {site} does not listen on a port", hint=_LISTEN_HINT)
    host, port = _ANYWHERE.get(address[0], address[0]), address[1]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return Daemon(url, config.web.token())
