"""A daemon that is asked everything and meets trouble: no output contains a secret."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import sqlalchemy as sa

from drc.cli import invoke
from drc.sandbox import Sandbox
from drc.sandbox.process import free_port
from tests.faults.fix_daemon import LONG, Daemon, StartDaemon, wait_until
from tests.faults.test_two_sided import cut_links
from tests.unit.monitor.test_webhook import Receiver, receiver  # noqa: F401

pytestmark = pytest.mark.servers

WAIT_S = 60
TOKEN = "of-the-web-0123456789"
WEBHOOK = "of-the-webhook-0123456789"
PAGES = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")
DOCUMENTS = ("snapshot", "status", "lag?origin=a", "conflicts", "audit")
ORDERS = {
    "streams/a/pause": '{"reason": "x"}',
    "streams/a/resume": "{}",
    "streams/nobody/pause": "{}",
    "streams/a/skip": '{"gtids": "nonsense", "reason": "x"}',
    "streams/a/reposition": '{"to": "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"}',
    "streams/b/reposition": "not json",
    "reload": "{}",
}
COMMANDS = ("status", "check", "audit")


def ask(running: Daemon, method: str, path: str, token: str, body: str = "") -> str:
    """Return the whole answer, headers included."""
    host, port = running.config.listen("b") or ("", 0)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with contextlib.closing(HTTPConnection(host, port, timeout=30)) as conn:
        conn.request(method, path, body, headers)
        answer = conn.getresponse()
        return f"{answer.status} {answer.headers} {answer.read().decode()}"


def store_of(running: Daemon) -> Iterator[str]:
    """Yield every table of the checkpoint store as text."""
    config = running.config
    url = sa.engine.make_url(config.state_url).set(password=config.state_password())
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as conn:
        for name in sa.inspect(conn).get_table_names():
            yield f"{name}: {conn.execute(sa.text(f'SELECT * FROM {name}')).fetchall()}"


def trouble(running: Daemon) -> None:
    """Make the server refuse the applier's password; this needs an operator, then a new start."""
    file = Path(running.config.sites["b"].applier.password_file)
    right = file.read_text()
    file.write_text(f"{right[::-1]}-wrong")
    try:
        cut_links(running.box)
        wait_until(
            lambda: "refuses the password" in running.log.read_text(), running, wait_s=WAIT_S
        )
    finally:
        file.write_text(right)
    running.kill9()
    running.start()


@pytest.mark.parametrize("log", ["direct", pytest.param("kafka", marks=LONG)])
def test_no_secret_is_told(
    log: str,
    request: pytest.FixtureRequest,
    pair: Sandbox,
    schema: str,
    daemon: StartDaemon,
    receiver: Receiver,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secrets = {
        f"{role} of {site.name}": site.password(f"drc_{role}")
        for site in pair.sites.values()
        for role in ("source", "applier", "operator")
    }
    a = pair.sites["a"]
    secrets |= {"token": TOKEN, "webhook": WEBHOOK, "store": a.password("app")}
    secrets["address of the webhook"] = receiver.url.rpartition("/")[2]
    for name in ("token", "webhook", "store"):
        monkeypatch.setenv(f"DRC_{name.upper()}", secrets[name])
    options: dict[str, object] = {}
    if log == "kafka":
        kafka = request.getfixturevalue("kafka")
        options = {"kafka": kafka, "listener": "SASL_SSL"}
        secrets["kafka"] = (kafka.folder / "tls" / "drc.password").read_text().strip()
    a.query(f"CREATE DATABASE `{schema}_store`")
    ports = {name: free_port() for name in pair.sites}
    web = {"token_env": "DRC_TOKEN"}
    together = daemon(pair, name=f"secrets-{log}", web=web, listen=ports, **options)
    assert together.stop() == 0
    path = together.path
    url = f"mysql+pymysql://app@{a.host}:{a.port}/{schema}_store"
    kept = f'state_url = "{url}"\nstate_password_env = "DRC_STORE"'
    text = "\n".join(
        kept if line.startswith("state_url") else line for line in path.read_text().splitlines()
    )
    alerts = f'[alerts]\nwebhook_url = "{receiver.url}"\nsecret_env = "DRC_WEBHOOK"\npaused_s = 0\n'
    path.write_text(f"{text}\n{alerts}")
    receiver.statuses += [500] * 3
    both = {name: Daemon(pair, path, name) for name in pair.sites}
    try:
        for one in both.values():
            one.start()
        both["b"].drain(schema)
        said = _everything(both["b"], capsys)
        trouble(both["b"])
        both["b"].drain(schema)
        said += [ask(both["b"], "POST", "/api/v1/streams/a/pause", TOKEN, '{"reason": "x"}')]
        assert receiver.got.get(timeout=WAIT_S)[0] == f"Bearer {WEBHOOK}"
        assert receiver.got.get(timeout=WAIT_S)
        said += store_of(both["b"])
        assert any("config_revisions" in text and "password_file" in text for text in said)
        processes = [p for one in both.values() for p in one.processes()]
        said += [" ".join(p.cmdline()) for p in processes] + [_threads(p) for p in processes]
        assert both["b"].stop() == both["a"].stop() == 0
    finally:
        for one in both.values():
            one.end()
    said += [file.read_text(errors="replace") for file in path.parent.glob("*.log")]
    assert len(said) > len(PAGES) + len(DOCUMENTS) + len(ORDERS) + len(COMMANDS)
    for name, secret in secrets.items():
        assert len(secret) > 7, name
        for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()):
            found = [text[:2000] for text in said if form in text]
            assert not found, f"{name} is told: {found[0]}"


def _everything(running: Daemon, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the daemon's answers, with right and wrong tokens, and the output of commands."""
    said = [ask(running, "GET", page, token) for page in PAGES for token in (TOKEN, TOKEN[:-1])]
    said += [ask(running, "GET", f"/api/v1/{name}", TOKEN) for name in DOCUMENTS]
    said += [ask(running, "POST", f"/api/v1/{path}", TOKEN, body) for path, body in ORDERS.items()]
    for command in COMMANDS:
        for form in ((), ("--json",)):
            capsys.readouterr()
            invoke([command, "-c", str(running.path), *form])
            out = capsys.readouterr()
            said.append(out.out + out.err)
    return said


def _threads(process: psutil.Process) -> str:
    names = Path(f"/proc/{process.pid}/task").glob("*/comm")
    return " ".join(name.read_text() for name in names)
