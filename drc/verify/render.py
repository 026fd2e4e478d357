"""Rendering: shows comparisons to people, as a line for each table and the first differences."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from drc.verify.compare import RowDifference, TableComparison

_DIFFERENCES_SHOWN = 5


def render(comparisons: Sequence[TableComparison], site_a: str = "a", site_b: str = "b") -> Group:
    """Return a table of all comparisons, and below the table the first differences."""
    out = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("table", f"rows {site_a}", f"rows {site_b}", "checksum", "", ""):
        out.add_column(title, justify="right" if title.startswith("rows") else "left")
    parts: list[Table | Text] = [out]
    for c in comparisons:
        out.add_row(
            Text(c.name),
            f"{c.rows_a:,}",
            f"{c.rows_b:,}",
            _checksums(c),
            _verdict(c),
            Text(c.problem),
        )
        for difference in c.differences[:_DIFFERENCES_SHOWN]:
            parts.append(_explain(c, difference, site_a, site_b))
    return Group(*parts)


def _verdict(c: TableComparison) -> Text:
    if c.identical:
        return Text("identical", style="green")
    counts = ((c.only_a, "only left"), (c.only_b, "only right"), (c.altered, "altered"))
    what = ", ".join(f"{n:,} {word}" for n, word in counts if n)
    return Text(f"DIFFERENT {what}".rstrip(), style="bold red")


def _checksums(c: TableComparison) -> Text:
    if c.checksum_a is None:
        return Text("–", style="dim")
    if c.checksums_equal:
        return Text(f"{c.checksum_a:>10}", style="dim")
    return Text(f"{c.checksum_a} ≠ {c.checksum_b}", style="red")


def _explain(c: TableComparison, d: RowDifference, site_a: str, site_b: str) -> Text:
    key = ", ".join(f"{name}={value}" for name, value in d.key.items())
    if d.a is None or d.b is None:
        what = f"only at {site_b if d.a is None else site_a}"
    else:
        pairs = (f"{n}: {d.a[n]} ≠ {d.b[n]}" for n in d.columns[:_DIFFERENCES_SHOWN])
        what = "; ".join(pairs)
    return Text(f"  {c.name} {key}: {what}", style="red")
