"""``drc top``: the streams of some daemons in a terminal, each second. A loop over daemons.py.

What is shown is drawn by :func:`card`, which is pure. Whoever only looks needs no right to give
orders: what a daemon refuses is told as it words it.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, Static

from drc.client.daemons import Daemon
from drc.errors import DrcError
from drc.monitor.alerts import CANARIES_MISSED

_PERIOD_S = 1.0
_KEPT = 120  # samples of a line: two minutes
_BARS = "▁▂▃▄▅▆▇█"
_STAGES = ("read", "logged", "received", "dispatched", "committed")
_STYLES = {
    "running": ("●", "bold green"),
    "connecting": ("◌", "bold yellow"),
    "paused": ("❚❚", "bold yellow"),
    "stopped": ("■", "bold red"),
    "need_reseed": ("✕", "bold red"),
}

Stream = dict[str, Any]
History = dict[str, deque[int]]  # what is drawn as a line, by its name


# ------------------------------------------------------------ drawing


def headline(streams: Sequence[Stream], errors: Sequence[DrcError]) -> Text:
    """Return in one sentence whether all is well, or what is not."""
    wrong = [str(error) for error in errors]
    for one in streams:
        if one["state"] != "running":
            wrong.append(f"{name(one)} is {one['state'].replace('_', ' ')}: {why(one)}")
        elif one.get("blocked"):
            wrong.append(f"{name(one)} is blocked: {why(one)}")
    if wrong:
        return Text(wrong[0] + (f"  (and {len(wrong) - 1} more)" if wrong[1:] else ""), "bold red")
    if not streams:
        return Text("no streams yet", "bold yellow")
    return Text("All is well: every stream runs.", "bold green")


def name(one: Stream) -> str:
    """Return how a stream is called."""
    return f"{one['origin']} → {one['target']}"


def why(one: Stream) -> str:
    """Return what holds a stream, as it says itself."""
    blocked, error = one.get("blocked") or {}, one.get("error") or {}
    return str(blocked.get("sentence") or error.get("message") or one.get("reason") or "")


def remedy(one: Stream) -> str:
    """Return what helps a stream that is held; '' if nothing is known to."""
    blocked, error = one.get("blocked") or {}, one.get("error") or {}
    return str(blocked.get("command") or error.get("hint") or "")


def lags(one: Stream) -> dict[str, int | None]:
    """Return the 99 % values of the whole way and of each stage that the stream has, in us."""
    whole = (one.get("lag_us") or {}).get("p99", one.get("lag_us_p99"))
    stages = one.get("stages") or {}
    told = {stage: (stages.get(f"{stage}_us") or {}).get("p99") for stage in _STAGES}
    return {"whole way": whole, **{k: v for k, v in told.items() if v is not None}}


def card(one: Stream, history: History, width: int) -> Table:
    """Return a stream as ``width`` cells of text: state, what holds it, numbers, lag by stage."""
    glyph, style = _STYLES.get(one["state"], ("?", "bold"))
    out = Table.grid(expand=True)
    out.add_row(Text.assemble((name(one), "bold"), "  ", (f"{glyph} {one['state']}", style)))
    if one["state"] != "running" or one.get("blocked"):
        out.add_row(Text(why(one), style))
        if helps := remedy(one):
            out.add_row(Text(f"  → {helps}", "cyan"))
    out.add_row(_numbers(one))
    grid = Table.grid(padding=(0, 1))
    for stage, value in lags(one).items():
        drawn = sparkline(history.get(stage, ()), max(8, min(_KEPT, width - 26)))
        style = "bold" if stage == "whole way" else ""
        grid.add_row(Text(f"{stage:10}", style), Text(f"{duration(value):>8}", style), drawn)
    out.add_row(grid)
    return out


def _numbers(one: Stream) -> Text:
    lag, behind, rates = (one.get(k) or {} for k in ("lag_us", "behind", "rates"))
    parts = [
        f"lag {duration(lag.get('p50', one.get('lag_us_p50')))}",
        f"99 % {duration(lag.get('p99', one.get('lag_us_p99')))}",
        f"99.9 % {duration(lag.get('p999'))}",
    ]
    if (waits := behind.get("transactions")) is not None:
        age = behind.get("seconds")
        parts.append(f"behind {waits:,} trx" + (f", {duration(age * 1e6)}" if age else ""))
    if rates:
        parts.append(f"{rates['transactions']:,.0f} trx/s, {rates['rows']:,.0f} rows/s")
    if conflicts := sum((one.get("conflicts") or {}).values()):
        parts.append(f"{conflicts:,} conflicts")
    if canary := one.get("canary"):
        parts.append(_canary(canary, one.get("observed_us") or 0))
    return Text("   ".join(parts), "dim" if one["state"] != "running" else "")


def _canary(said: dict[str, Any], now_us: int) -> str:
    if said["bounced"]:
        return "CANARY CAME BACK"
    if not (landed_us := said["landed_us"]):
        return "no canary yet"
    if now_us - landed_us > CANARIES_MISSED * said["every_s"] * 1e6:
        return f"no canary for {duration(now_us - landed_us)}"
    return f"canary {duration(landed_us - said['sent_us'])}"


def sparkline(values: Iterable[int], width: int) -> Text:
    """Return the newest values as bars, the highest of them as a full one."""
    shown = list(values)[-width:]
    most = max(shown, default=0) or 1
    bars = "".join(_BARS[min(7, 8 * max(0, value) // (most + 1))] for value in shown)
    return Text(bars.rjust(width), "cyan")


def duration(us: float | None) -> str:
    """Return microseconds in the unit that a person would take."""
    if us is None:
        return "–"
    if us < 1e6:
        return f"{us / 1e3:.1f} ms"
    return f"{us / 1e6:,.1f} s" if us < 120e6 else f"{us / 60e6:,.1f} min"


# ------------------------------------------------------------ the screen


class _Card(Static, can_focus=True):
    """One stream; the focused one takes orders."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(classes="card")
        self.daemon = daemon
        self.stream: Stream = {}
        self._history: History = defaultdict(lambda: deque(maxlen=_KEPT))

    def show(self, stream: Stream) -> None:
        self.stream = stream
        for stage, value in lags(stream).items():
            self._history[stage].append(value or 0)
        self.update(card(stream, self._history, self.size.width or 80))


class _Ask(ModalScreen[str]):
    """Ask for a reason; '' when it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss('')", "Leave")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Label(self._question)
            yield Input(placeholder="reason, kept in the audit; Enter does it, Escape leaves")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if reason := event.value.strip():
            self.dismiss(reason)


class Top(App[None]):
    """Show the streams of ``daemons`` until the user leaves."""

    CSS = """
    #headline { padding: 0 1; height: auto; }
    .card { border: round $panel; padding: 0 1; height: auto; }
    .card:focus { border: round $accent; }
    _Ask { align: center middle; }
    #ask { width: 70; max-width: 90%; height: auto; border: round $accent; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "order('pause')", "Pause"),
        Binding("r", "order('resume')", "Resume"),
        Binding("down,j", "app.focus_next", "Next", show=False),
        Binding("up,k", "app.focus_previous", "Previous", show=False),
        Binding("q", "quit", "Quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        super().__init__()
        self._daemons = daemons
        self._cards: dict[str, _Card] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="headline")
        yield VerticalScroll(id="streams", can_focus=False)
        yield Footer()

    def on_mount(self) -> None:
        self._watch()

    @work(thread=True)
    def _watch(self) -> None:
        with ThreadPoolExecutor(len(self._daemons)) as pool:
            while self.is_running:
                told = list(pool.map(_ask, self._daemons))
                if self.is_running:
                    self.call_from_thread(self._show, told)
                time.sleep(_PERIOD_S)

    def _show(self, told: list[tuple[Daemon, dict[str, Any] | DrcError]]) -> None:
        errors = [said for _, said in told if isinstance(said, DrcError)]
        streams: list[Stream] = []
        for daemon, said in told:
            if isinstance(said, DrcError):
                continue
            self.title = str(said.get("pair", "drc"))
            for one in said["streams"]:
                streams.append(one)
                self._card(name(one), daemon).show(one)
        shown = Text.assemble((f"{self.title}  ", "bold"), headline(streams, errors))
        self.query_one("#headline", Static).update(shown)

    def _card(self, which: str, daemon: Daemon) -> _Card:
        if which not in self._cards:
            self._cards[which] = made = _Card(daemon)
            self.query_one("#streams").mount(made)
            if len(self._cards) == 1:
                self.call_after_refresh(made.focus)
        return self._cards[which]

    @work
    async def action_order(self, action: str) -> None:
        chosen = self.focused
        if not isinstance(chosen, _Card):
            self.notify("choose a stream first: Tab", severity="warning")
            return
        question = f"{action.capitalize()} {name(chosen.stream)}?"
        if reason := await self.push_screen_wait(_Ask(question)):
            self._carry_out(chosen.daemon, chosen.stream["origin"], action, reason)

    @work(thread=True)
    def _carry_out(self, daemon: Daemon, origin: str, action: str, reason: str) -> None:
        try:
            done = daemon.order(origin, action, reason)
            self.call_from_thread(self.notify, f"{done.get('stream', origin)}: {action} is done")
        except DrcError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=15)


def _ask(daemon: Daemon) -> tuple[Daemon, dict[str, Any] | DrcError]:
    try:
        return daemon, daemon.snapshot()
    except DrcError as error:
        return daemon, error
