"""``drc top``: shows the streams of daemons in a terminal, each second. A loop over daemons.py.

:func:`card` draws a stream and is pure. A user without the right to give commands can still watch:
the refusal of a daemon is shown in the daemon's own words.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

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
from drc.monitor.document import DaemonSnapshot
from drc.worker.snapshot import CanarySnapshot, StreamSnapshot
from drc.worker.stages import STAGES

_PERIOD_S = 1.0
_KEPT = 120  # samples of a sparkline: two minutes
_BARS = "▁▂▃▄▅▆▇█"
_STYLES = {
    "running": ("●", "bold green"),
    "connecting": ("◌", "bold yellow"),
    "paused": ("❚❚", "bold yellow"),
    "stopped": ("■", "bold red"),
    "need_reseed": ("✕", "bold red"),
}

History = dict[str, deque[int]]  # the values of each sparkline, by stage


# ------------------------------------------------------------ drawing


def headline(streams: Sequence[StreamSnapshot], errors: Sequence[DrcError]) -> Text:
    """Return a sentence: all is well, or the first trouble and the number of other troubles."""
    wrong = [str(error) for error in errors]
    for one in streams:
        if one.state != "running":
            wrong.append(f"{name(one)} is {one.state.replace('_', ' ')}: {why(one)}")
        elif one.blocked:
            wrong.append(f"{name(one)} is blocked: {why(one)}")
    if wrong:
        return Text(wrong[0] + (f"  (and {len(wrong) - 1} more)" if wrong[1:] else ""), "bold red")
    if not streams:
        return Text("no streams yet", "bold yellow")
    return Text("All is well: every stream runs.", "bold green")


def name(one: StreamSnapshot) -> str:
    """Return the name of a stream, such as ``a → b``."""
    return f"{one.origin} → {one.target}"


def why(one: StreamSnapshot) -> str:
    """Return why a stream does not apply, in the daemon's words."""
    if one.blocked and one.blocked.sentence:
        return one.blocked.sentence
    return one.error.message if one.error else one.reason


def remedy(one: StreamSnapshot) -> str:
    """Return the command or hint that helps a held stream; '' if no remedy is known."""
    if one.blocked and one.blocked.command:
        return one.blocked.command
    return one.error.hint if one.error else ""


def lags(one: StreamSnapshot) -> dict[str, int | None]:
    """Return the 99 % lag of the whole way and of each measured stage, in microseconds."""
    stages = {stage: getattr(one.stages, f"{stage}_us").p99 for stage in STAGES}
    return {"whole way": one.lag_us.p99, **{k: v for k, v in stages.items() if v is not None}}


def card(one: StreamSnapshot, history: History, width: int) -> Table:
    """Return a stream as text of ``width`` cells: state, hold, numbers, lag by stage."""
    glyph, style = _STYLES.get(one.state, ("?", "bold"))
    out = Table.grid(expand=True)
    out.add_row(Text.assemble((name(one), "bold"), "  ", (f"{glyph} {one.state}", style)))
    if one.state != "running" or one.blocked:
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


def _numbers(one: StreamSnapshot) -> Text:
    lag, behind, rates = one.lag_us, one.behind, one.rates
    parts = [
        f"lag {duration(lag.p50)}",
        f"99 % {duration(lag.p99)}",
        f"99.9 % {duration(lag.p999)}",
    ]
    if behind.transactions is not None:
        age = f", {duration(behind.seconds * 1e6)}" if behind.seconds else ""
        parts.append(f"behind {behind.transactions:,} trx{age}")
    parts.append(f"{rates.transactions:,.0f} trx/s, {rates.rows:,.0f} rows/s")
    if conflicts := sum(one.conflicts.values()):
        parts.append(f"{conflicts:,} conflicts")
    if one.canary:
        parts.append(_canary(one.canary, one.observed_us))
    return Text("   ".join(parts), "dim" if one.state != "running" else "")


def _canary(said: CanarySnapshot, now_us: int) -> str:
    if said.bounced:
        return "CANARY CAME BACK"
    if not said.landed_us or said.sent_us is None:
        return "no canary yet"
    if now_us - said.landed_us > CANARIES_MISSED * said.every_s * 1e6:
        return f"no canary for {duration(now_us - said.landed_us)}"
    return f"canary {duration(said.landed_us - said.sent_us)}"


def sparkline(values: Iterable[int], width: int) -> Text:
    """Return the newest values as bars; the highest value is a full bar."""
    shown = list(values)[-width:]
    most = max(shown, default=0) or 1
    bars = "".join(_BARS[min(7, 8 * max(0, value) // (most + 1))] for value in shown)
    return Text(bars.rjust(width), "cyan")


def duration(us: float | None) -> str:
    """Return microseconds in a readable unit: ``1.5 ms``, ``12.0 s``, ``3.0 min``."""
    if us is None:
        return "–"
    if us < 1e6:
        return f"{us / 1e3:.1f} ms"
    return f"{us / 1e6:,.1f} s" if us < 120e6 else f"{us / 60e6:,.1f} min"


# ------------------------------------------------------------ the screen


class _Card(Static, can_focus=True):
    """A stream on the screen; keys give commands to the focused card."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(classes="card")
        self.daemon = daemon
        self.stream: StreamSnapshot | None = None
        self._history: History = defaultdict(lambda: deque(maxlen=_KEPT))

    def show(self, stream: StreamSnapshot) -> None:
        self.stream = stream
        for stage, value in lags(stream).items():
            self._history[stage].append(value or 0)
        self.update(card(stream, self._history, self.size.width or 80))


class _Ask(ModalScreen[str]):
    """Ask for a reason; '' when the user leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss('')", "Leave")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Label(self._question)
            yield Input(placeholder="reason, kept in the audit; Enter confirms, Escape leaves")

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
        Binding("p", "command('pause')", "Pause"),
        Binding("r", "command('resume')", "Resume"),
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

    def _show(self, told: list[tuple[Daemon, DaemonSnapshot | DrcError]]) -> None:
        errors = [said for _, said in told if isinstance(said, DrcError)]
        streams: list[StreamSnapshot] = []
        for daemon, said in told:
            if isinstance(said, DrcError):
                continue
            self.title = said.pair or "drc"
            for one in said.streams:
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
    async def action_command(self, action: str) -> None:
        chosen = self.focused
        if not isinstance(chosen, _Card) or chosen.stream is None:
            self.notify("choose a stream first: Tab", severity="warning")
            return
        stream = chosen.stream
        question = f"{action.capitalize()} {name(stream)}?"
        if reason := await self.push_screen_wait(_Ask(question)):
            self._carry_out(chosen.daemon, stream.origin, action, reason)

    @work(thread=True)
    def _carry_out(self, daemon: Daemon, origin: str, action: str, reason: str) -> None:
        try:
            done = daemon.command(origin, action, reason)
            self.call_from_thread(self.notify, f"{done.get('stream', origin)}: {action} is done")
        except DrcError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=15)


def _ask(daemon: Daemon) -> tuple[Daemon, DaemonSnapshot | DrcError]:
    try:
        return daemon, daemon.snapshot()
    except DrcError as error:
        return daemon, error
