"""The webhook on a real HTTP server: delivery, repeated attempts, and no secret in the log."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from msgspec.structs import asdict
from structlog.testing import capture_logs

from drc.config import AlertsConfig
from drc.monitor.alerts import Note
from drc.monitor.webhook import Webhook, post
from drc.worker.snapshot import Alert

NOTE = Note("raised", Alert("a->b/blocked", "page", "b", "a->b", 1, "why", "do"))
SECRET = "of-the-test-only"


class Receiver(ThreadingHTTPServer):
    """A server that keeps each posted body; answers with ``statuses``, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.statuses: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook-that-is-secret"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # Before the answer is sent: with the answer, a test may look at once.
        self.server.got.put((self.headers.get("Authorization", ""), body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_it_arrives_with_sentence_command_and_secret_after_failures(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRC_HOOK", SECRET)
    receiver.statuses = [500]
    with capture_logs() as logs:
        webhook = Webhook(AlertsConfig(webhook_url=receiver.url, secret_env="DRC_HOOK"), "p")
        monkeypatch.setattr(webhook._closed, "wait", lambda _: False)  # no wait between attempts
        webhook.tell(NOTE)
        receiver.got.get(timeout=10)
        header, body = receiver.got.get(timeout=10)
        webhook.close()
    assert header == f"Bearer {SECRET}"
    assert body == {"pair": "p", "event": "raised", **asdict(NOTE.alert)}
    assert [log["error"] for log in logs] == ["answered 500"]
    assert SECRET not in str(logs)
    assert "hook-that-is-secret" not in str(logs)


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [302]
    with pytest.raises(OSError, match="302"):
        post(AlertsConfig(webhook_url=receiver.url), "p", NOTE)
    assert receiver.got.qsize() == 1
