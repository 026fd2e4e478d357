"""``drc top``: the drawing, the keys, and the message where no daemon answers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import Input

from drc.cli import invoke
from drc.client.daemons import Daemon
from drc.client.top import Top, card, duration, headline, sparkline
from drc.errors import ConfigError, DrcError, TransientError
from drc.sandbox.process import free_port
from drc.worker.snapshot import Hold, Spread, StreamSnapshot
from tests.browser.fake import TOKEN, FakeDaemon, served

PLAIN = StreamSnapshot(origin="a", target="b", state="running", lag_us=Spread(p50=1500, p99=9000))


@pytest.fixture
def fake() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
def daemon(fake: FakeDaemon) -> Iterator[Daemon]:
    with served(fake.app()) as url:
        yield Daemon(url, TOKEN)


def drawn(renderable: Any) -> str:
    out = io.StringIO()
    Console(width=100, file=out).print(renderable)
    return out.getvalue()


# ------------------------------------------------------------ drawing


def test_a_stream_that_tells_little_is_drawn() -> None:
    text = drawn(card(PLAIN, {}, 100))
    assert "a → b  ● running" in text
    assert "lag 1.5 ms   99 % 9.0 ms" in text


def test_what_holds_a_stream_and_what_helps_are_drawn() -> None:
    held = Hold(sentence="a user at b holds the row 7 of shop.t", command="KILL 12")
    stream = replace(PLAIN, blocked=held)
    text = drawn(card(stream, {}, 100))
    assert "a user at b holds the row 7 of shop.t" in text
    assert "→ KILL 12" in text
    assert "a → b is blocked: a user at b holds" in headline([stream], []).plain


def test_the_first_line() -> None:
    assert headline([PLAIN], []).plain == "All is well: every stream runs."
    away = DrcError("b does not answer")
    stopped = replace(PLAIN, state="stopped", reason="duplicate key")
    assert headline([stopped], []).plain == "a → b is stopped: duplicate key"
    assert headline([stopped], [away]).plain == "b does not answer  (and 1 more)"


def test_lines_and_times() -> None:
    assert sparkline([0, 50, 100], 5).plain == "  ▁▄█"
    assert sparkline([], 3).plain == "   "
    assert [duration(x) for x in (None, 1500, 2_500_000, 180_000_000)] == [
        "–",
        "1.5 ms",
        "2.5 s",
        "3.0 min",
    ]


# ------------------------------------------------------------ keys


async def until(pilot: Pilot[None], true: Any) -> None:
    for _ in range(400):
        if true():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not come")


def test_a_stream_is_paused_and_resumed(fake: FakeDaemon, daemon: Daemon) -> None:
    async def session() -> None:
        app = Top([daemon])
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: app.focused)
            for key, action in (("p", "pause"), ("r", "resume")):
                await pilot.press(key)
                await until(pilot, lambda: isinstance(app.focused, Input))
                await pilot.press("enter")  # refused without a reason
                assert isinstance(app.focused, Input)
                await pilot.press(*action, "enter")
                await until(pilot, lambda a=action: fake.commands and fake.commands[-1][1] == a)
            await pilot.press("p", "escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)

    asyncio.run(session())
    said = [(origin, action, body["reason"]) for origin, action, body in fake.commands]
    assert said == [("shanghai", "pause", "pause"), ("shanghai", "resume", "resume")]
    assert all("@" in body["actor"] for *_, body in fake.commands)


def test_what_is_away_is_said(fake: FakeDaemon, daemon: Daemon) -> None:
    fake.deaf.set()

    async def session() -> None:
        app = Top([daemon])
        async with app.run_test() as pilot:
            line = app.query_one("#headline")
            await until(pilot, lambda: "refuses, status 503: away" in str(line.render()))

    asyncio.run(session())


# ------------------------------------------------------------ errors


def test_errors_say_what_to_do(daemon: Daemon) -> None:
    with pytest.raises(ConfigError, match="token"):
        Daemon(daemon.url, "not-this-one-0123456789").snapshot()
    with pytest.raises(TransientError, match="drc run"):
        Daemon(f"http://127.0.0.1:{free_port()}").snapshot()


def test_where_no_daemon_listens_it_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config_text: str
) -> None:
    path = tmp_path / "pair.toml"
    path.write_text(config_text)
    assert invoke(["top", "-c", str(path)]) == 2
    assert "web.listen" in capsys.readouterr().err


@pytest.fixture
def config_text() -> str:
    site = '[sites.{0}]\nhost = "127.0.0.1"\nport = {1}\n[sites.{0}.source]\nuser = "x"\n'
    site += 'password_env = "X"\n[sites.{0}.applier]\nuser = "x"\npassword_env = "X"\n'
    return 'name = "shop"\n' + site.format("a", 1) + site.format("b", 2)
