"""Web server: serves a daemon's web application from a thread of its own. Edge.

1. Replication never waits for the web server and never ends because of the web server: a port
   that another process has is tried again.
2. The process can exit at any time: Python waits for no daemon thread.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog
import uvicorn

from drc.config import Config
from drc.web.app import build_app

_RETRY_S = 2.0  # for a port that is taken, mostly by the daemon before, which drains up to 30 s
_CLIENTS_MAX = 32  # at once: a few scrapers, pages and terminals
_KEEP_ALIVE_S = 30
_END_S = 3.0  # then requests under way are dropped

if TYPE_CHECKING:
    from drc.control.control import Control

log = structlog.get_logger("drc.web")


@contextlib.contextmanager
def serving(config: Config, site: str) -> Iterator[Callable[[Control | None], None]]:
    """Serve until the block ends; yield a function that takes the control of the running site.

    :raises ConfigError: the token cannot be read.
    """
    config.web.token()
    server = _Server(config, site)
    server.start()
    try:
        yield server.show
    finally:
        server.close()


class _Server(threading.Thread):
    def __init__(self, config: Config, site: str) -> None:
        super().__init__(name="web", daemon=True)
        address = config.listen(site)
        assert address, "only a site that listens has a web server"
        self._address = address
        self._control: Control | None = None
        self._closed = threading.Event()
        app = build_app(config.web, config.name, site, lambda: self._control, (address[0],))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CLIENTS_MAX,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )

    def show(self, control: Control | None) -> None:
        """Answer for this site's control from now on; None: no site runs."""
        self._control = control

    def close(self) -> None:
        self._closed.set()
        self._server.should_exit = True
        self.join(_END_S)

    def run(self) -> None:
        if listening := self._bind():
            with listening:
                self._server.run(sockets=[listening])

    def _bind(self) -> socket.socket | None:
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        said = False
        while not self._closed.is_set():
            try:
                listening = socket.create_server((host, port), family=family)
            except OSError as error:
                if not said:
                    hint = "free the port, or set sites.NAME.listen to a port of its own"
                    log.warning(
                        "the web server waits for its port", port=port, error=str(error), hint=hint
                    )
                    said = True
                self._closed.wait(_RETRY_S)
                continue
            log.info("web server listens", host=host, port=port)
            return listening
        return None
