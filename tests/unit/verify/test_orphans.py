"""The scan for orphans: the statement; ``faults/test_policies.py`` runs the scan on servers."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from drc.cli.conflicts import render_orphans
from drc.verify.orphans import ForeignKey, Orphans, condition, foreign_keys

ROWS: list[tuple[str, ...]] = [
    ("shop", "item", "fk_order", "shop", "order", "site", "site"),
    ("shop", "item", "fk_order", "shop", "order", "order_id", "id"),
    ("shop", "item", "fk_sku", "stock", "sku", "sku", "code"),
]
ORDER = ForeignKey(
    ("shop", "item"), "fk_order", ("shop", "order"), ("site", "order_id"), ("site", "id")
)


def test_columns_of_a_key_belong_together() -> None:
    first, second = foreign_keys(ROWS)
    assert first == ORDER
    assert second.parent == ("stock", "sku")
    assert (second.columns, second.parent_columns) == (("sku",), ("code",))


def test_a_row_with_null_has_no_parent_to_miss() -> None:
    assert condition(ORDER) == (
        "c.`site` IS NOT NULL AND c.`order_id` IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM `shop`.`order` p WHERE p.`site` = c.`site` AND p.`id` = c.`order_id`)"
    )


def test_a_few_are_shown_as_text() -> None:
    sample = [{"site": "a", "order_id": "\x1b[31m"}] * 5
    out = StringIO()
    console = Console(file=out, width=300, force_terminal=True, color_system=None)
    console.print(render_orphans([Orphans("a", ORDER, 5, sample)]))
    assert "\x1b[31m" not in out.getvalue()
    assert out.getvalue().count("order_id") == 3
