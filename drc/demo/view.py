"""The screen of the demo of the marketplace: a live table, and a summary at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from drc.verify.audit import Audit
from drc.worker.stages import percentile

_BARS = "▁▂▃▄▅▆▇█"
_BARS_SHOWN = 24
_WINDOW_S = 2.0


class Rate:
    """The growth of a counter per second, over the last 2 s."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, total: int) -> None:
        """Add a sample, unless the newest sample has the same time or a later time.

        :param now: time in seconds.
        :param total: the counter at that time.
        """
        if not self._samples or now > self._samples[-1][0]:
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW_S:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """Return the growth per second, or 0 before there are two samples."""
        if len(self._samples) < 2:
            return 0.0
        (begin, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - begin)


@dataclass(frozen=True, slots=True)
class Lag:
    """A summary of a direction's lags, in microseconds."""

    last: int
    p50: int
    p99: int
    max: int
    samples: int

    @classmethod
    def of(cls, lags_us: Sequence[int]) -> Lag:
        """Summarize lags, oldest first."""
        ordered = sorted(lags_us)
        return cls(
            lags_us[-1] if lags_us else 0,
            percentile(ordered, 0.5),
            percentile(ordered, 0.99),
            ordered[-1] if ordered else 0,
            len(ordered),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A direction at a moment."""

    name: str
    state: str
    written_per_s: float
    applied_per_s: float
    written: int
    lags_us: Sequence[int]
    reads: int
    torn: int


def milliseconds(us: int) -> str:
    """Return a duration as text, for example ``1,234.5 ms``."""
    return f"{us / 1000:,.1f} ms"


def bars(lags_us: Sequence[int]) -> str:
    """Return the newest lags as bars, for example ``▁▂▁█``; the longest lag has the highest bar."""
    shown = lags_us[-_BARS_SHOWN:]
    top = max(shown, default=0) or 1
    return "".join(_BARS[min(len(_BARS) - 1, lag * len(_BARS) // (top + 1))] for lag in shown)


def live(rows: Sequence[Row], left_s: float) -> Table:
    """Return a table of all directions at a moment, for a terminal."""
    out = Table(title=f"both sites are being written, {left_s:.0f} s left", title_justify="left")
    for column in ("direction", "state"):
        out.add_column(column)
    for column in ("written/s", "applied/s", "lag", "p50", "p99"):
        out.add_column(column, justify="right", min_width=8)
    out.add_column("lag, newest right", min_width=_BARS_SHOWN)
    out.add_column("half visible", justify="right")
    for row in rows:
        lag = Lag.of(row.lags_us)
        out.add_row(
            row.name,
            Text(row.state, style="green" if row.state == "running" else "yellow"),
            f"{row.written_per_s:,.0f}",
            f"{row.applied_per_s:,.0f}",
            *(milliseconds(us) for us in (lag.last, lag.p50, lag.p99)),
            Text(bars(row.lags_us), style="cyan"),
            Text(f"{row.torn} of {row.reads}", style="bold red" if row.torn else ""),
        )
    return out


def line(row: Row) -> str:
    """Return a direction at a moment as a line, for output that is not a terminal."""
    lag = Lag.of(row.lags_us)
    return (
        f"  {row.name}  {row.state}  written {row.written_per_s:,.0f}/s"
        f"  applied {row.applied_per_s:,.0f}/s  lag {milliseconds(lag.last)}"
        f"  p50 {milliseconds(lag.p50)}  p99 {milliseconds(lag.p99)}"
    )


def account(audit: Audit, lags: dict[tuple[str, str], Lag]) -> Group:
    """Return the summary of all directions, and below the GTIDs that the audit complains of."""
    out = Table(box=None, pad_edge=False, header_style="dim")
    out.add_column("direction")
    for column in (
        "transactions", "arrived", "in batches", "missing", "twice", "bounced",
        "lag p50", "p99", "max",
    ):  # fmt: skip
        out.add_column(column, justify="right")
    wrong: list[Text] = []
    for d in audit.directions:
        lag = lags[d.origin, d.target]
        faults = {"missing": d.missing, "twice": d.twice, "bounced": d.bounced}
        out.add_row(
            f"{d.origin} → {d.target}",
            f"{d.required:,}",
            f"{d.arrived:,}",
            f"{d.batches:,}",
            *(Text("some" if v else "0", style="bold red" if v else "") for v in faults.values()),
            *(milliseconds(us) for us in (lag.p50, lag.p99, lag.max)),
        )
        wrong += [
            Text(f"  {d.origin} → {d.target} {what}: {gtids}", style="red")
            for what, gtids in {**faults, "in no binlog": d.unknown}.items()
            if gtids
        ]
    return Group(out, *wrong)
