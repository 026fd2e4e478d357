"""Webhook: posts alerts from a thread of its own. Edge.

1. Replication never waits for the webhook: the queue is bounded, and a note that does not fit is
   dropped and logged.
2. Neither address nor secret is logged, because an address is often a secret itself. No redirect
   is followed, because a redirect would take the secret elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import urllib.error
import urllib.request
from typing import Any

import structlog
from msgspec.structs import asdict

from drc.config import AlertsConfig
from drc.errors import ConfigError
from drc.monitor.alerts import Note

_QUEUE_MAX = 1000  # notes; a site has a dozen conditions
_ATTEMPTS = 6  # half a minute with the pauses in between; the alert is repeated anyway
_BACKOFF_MAX_S = 10.0
_ANSWER_MAX = 4096

log = structlog.get_logger("drc.alerts")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def post(config: AlertsConfig, pair: str, note: Note) -> int:
    """Post a note; return the HTTP status, which is 2xx.

    :raises OSError: no answer, or another status; the text does not hold the address.
    :raises ConfigError: the secret cannot be read.
    """
    body = {"pair": pair, "event": note.event, **asdict(note.alert)}
    headers = {"Content-Type": "application/json"}
    if secret := config.secret():
        headers["Authorization"] = f"Bearer {secret}"
    request = urllib.request.Request(  # noqa: S310  # the scheme is checked by the configuration
        config.webhook_url, json.dumps(body).encode(), headers, method="POST"
    )
    try:
        with _OPENER.open(request, timeout=config.timeout_s) as answer:
            answer.read(_ANSWER_MAX)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"answered {error.code}") from None


class Webhook:
    """Post notes in order until closed."""

    def __init__(self, config: AlertsConfig, pair: str) -> None:
        self._config, self._pair = config, pair
        self._queue: queue.Queue[Note] = queue.Queue(_QUEUE_MAX)
        self._closed = threading.Event()
        self._well = True
        if config.webhook_url:
            threading.Thread(target=self._run, name="webhook", daemon=True).start()

    def tell(self, note: Note) -> None:
        """Queue a note to be posted soon; never wait."""
        if self._config.webhook_url:
            try:
                self._queue.put_nowait(note)
            except queue.Full:
                self._complain("the queue of the webhook is full")

    def close(self) -> None:
        """End the thread; notes that are not posted yet are dropped."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                self._deliver(self._queue.get(timeout=1))

    def _deliver(self, note: Note) -> None:
        backoff_s = 1.0
        for _ in range(_ATTEMPTS):
            try:
                post(self._config, self._pair, note)
            except (OSError, ConfigError) as error:
                self._complain(str(error))
            except Exception as error:  # for a broken answer; the text may hold the address
                self._complain(type(error).__name__)
            else:
                self._well = True
                return
            if self._closed.wait(backoff_s):
                return
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    def _complain(self, why: str) -> None:
        if self._well:  # once for each series of failures
            hint = "check alerts.webhook_url with `drc alerts --test`"
            log.warning("cannot post alerts", error=why, hint=hint)
        self._well = False
