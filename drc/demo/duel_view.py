"""The screen of the demo of conflicts: counts, winners, the newest and the open conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from drc.demo.casebook import Case
from drc.demo.view import Lag, bars, milliseconds

_KIND_STYLE = "yellow"


@dataclass(frozen=True, slots=True)
class Site:
    """A site at a moment.

    :param counts: number of conflicts by (kind, winner).
    :param lags_us: lags of this site's writes on the way to the other site, in microseconds.
    """

    name: str
    state: str
    written_per_s: float
    conflicts_per_s: float
    counts: Counter[tuple[str, str]]
    lags_us: Sequence[int]
    newest: Sequence[Case]


def by_kind(counts: Counter[tuple[str, str]]) -> Counter[str]:
    """Return the number of conflicts of each kind."""
    out: Counter[str] = Counter()
    for (kind, _), number in counts.items():
        out[kind] += number
    return out


def by_winner(counts: Counter[tuple[str, str]]) -> Counter[str]:
    """Return the number of conflicts of each winner: a site, ``merged`` or ``open``."""
    out: Counter[str] = Counter()
    for (_, winner), number in counts.items():
        out[winner] += number
    return out


def live(sites: Sequence[Site], left_s: float) -> Group:
    """Return the picture of a moment for a terminal."""
    out = Table(
        title=f"both sites write the same few rows, {left_s:.0f} s left", title_justify="left"
    )
    for column in ("at", "state"):
        out.add_column(column)
    for column in ("written/s", "conflicts/s", "a won", "b won", "both", "lag out", "p99"):
        out.add_column(column, justify="right")
    out.add_column("lag, newest right")
    for site in sites:
        lag, won = Lag.of(site.lags_us), by_winner(site.counts)
        out.add_row(
            site.name,
            Text(site.state, style="green" if site.state == "running" else "yellow"),
            f"{site.written_per_s:,.0f}",
            f"{site.conflicts_per_s:,.0f}",
            *(f"{won[who]:,}" for who in ("a", "b", "merged")),
            milliseconds(lag.last),
            milliseconds(lag.p99),
            Text(bars(site.lags_us), style="cyan"),
        )
    return Group(out, kinds(sites), *newest(sites))


def kinds(sites: Sequence[Site]) -> Table:
    """Return a table of the number of conflicts of each kind at each site."""
    counts = {site.name: by_kind(site.counts) for site in sites}
    out = Table(box=None, pad_edge=False, header_style="dim")
    out.add_column("conflicts, by kind")
    for name in counts:
        out.add_column(f"at {name}", justify="right")
    for kind in sorted(set().union(*counts.values())):
        out.add_row(Text(kind, style=_KIND_STYLE), *(f"{c[kind]:,}" for c in counts.values()))
    return out


def newest(sites: Sequence[Site]) -> list[Text]:
    """Return a line for each of the newest conflicts."""
    return [
        Text.assemble((f"at {site.name}  ", "dim"), told(case), no_wrap=True, overflow="ellipsis")
        for site in sites
        for case in site.newest
    ]


def told(case: Case) -> Text:
    """Return a conflict as a sentence."""
    outcome = {"merged": "both stay", "open": "an operator decides"}
    return Text.assemble(
        (case.kind, _KIND_STYLE),
        f" {case.table} {case.key}: ({row(case.row_local)}) met ({row(case.row_after)})"
        f" of {case.origin}; {outcome.get(case.winner, case.winner + ' won')}, ",
        (case.reason, "dim"),
    )


def row(document: Mapping[str, Any] | None) -> str:
    """Return a row as a line, for example ``id=7, name=Ada``."""
    if document is None:
        return "no row"
    return ", ".join(f"{name}={value}" for name, value in sorted(document.items()))


def line(site: Site) -> str:
    """Return the picture of a site as a line, for output that is not a terminal."""
    lag, won = Lag.of(site.lags_us), by_winner(site.counts)
    found = ", ".join(f"{kind} {n:,}" for kind, n in by_kind(site.counts).most_common())
    return (
        f"  {site.name}  {site.state}  written {site.written_per_s:,.0f}/s"
        f"  conflicts {site.conflicts_per_s:,.0f}/s ({found})"
        f"  won: a {won['a']:,}, b {won['b']:,}, both {won['merged']:,}"
        f"  lag {milliseconds(lag.last)}"
    )


def desk(parked: Mapping[str, Sequence[Case]], rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table of the open conflicts, with the row of each site and the refused row.

    :param parked: the open conflicts of each site.
    :param rows: the row that each site keeps.
    """
    out = Table(title="open conflicts, which no policy may decide", title_justify="left")
    for column in ("at", "conflict", "the row here", "the row that did not get in", "why"):
        out.add_column(column, overflow="fold")
    for site, cases in parked.items():
        for case in cases:
            out.add_row(
                site,
                f"#{case.id} {case.kind}\n{case.table} {case.key}",
                row(rows[site]),
                f"{row(case.row_after)} of {case.origin}",
                case.reason,
            )
    return out
