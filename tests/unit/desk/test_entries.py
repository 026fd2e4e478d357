"""The conflict desk: shown values are text, masked values stay hidden, the resolver agrees."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from drc import config as configuration
from drc.cli.conflicts import render, render_list
from drc.desk.entries import Filter, Replayed, replay
from drc.rows.mask import Mask

HOSTILE = "\x1b[31m\x9b2J[red]x[/red]\n"


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "site": "a",
        "id": 7,
        "detected_at": "2026-11-24T08:00:00.000000Z",
        "slot": 1,
        "table": "shop.user",
        "row_key": "id=1",
        "kind": "update_origin_differs",
        "policy": "last_writer_wins",
        "winner": "local",
        "state": "auto",
        "reason": "later",
        "origin": "b",
        "gtid": "u:1",
        "ets": 1_500_000,
        "seen": "",
        "rivals": [{"origin": "a", "gtid": "v:1", "ets": 2_000_000}],
        "rival_count": 1,
        "row_local": {"id": 1, "v": "x"},
        "row_before": None,
        "row_after": {"id": 1, "v": "y"},
        "has_images": True,
        "settled_at": None,
        "settled_by": None,
        "settlement": None,
        **changes,
    }


def shown(renderable: Any) -> str:
    out = StringIO()
    Console(file=out, width=300, force_terminal=True, color_system=None).print(renderable)
    return out.getvalue()


def test_values_of_rows_stay_text() -> None:
    hostile = entry(row_key=HOSTILE, reason=HOSTILE, row_local={"id": 1, HOSTILE: HOSTILE})
    for text in (shown(render(hostile)), shown(render_list([hostile]))):
        assert "\x9b" not in text
        assert "\x1b[31m" not in text
        assert "[red]x[/red]" in text


def test_columns_that_differ_are_marked_and_clocks_compared() -> None:
    text = shown(render(entry()))
    assert [line for line in text.splitlines() if "≠" in line and '"x"' in line and '"y"' in line]
    assert "0.500000 s earlier" in text


def test_a_glob_of_tables_escapes_what_like_obeys() -> None:
    where, values = Filter("shop.o_d%r*", ("open",), ("insert_exists",), 5).where()
    assert values == ["shop.o|_d|%r%", "open", "insert_exists", 5]
    assert where.count("%s") == len(values)


def test_masked_values_can_be_compared_and_not_read() -> None:
    mask = Mask(["Shop.user.EMAIL"], "p")
    first, second = (mask.row("shop.user", {"id": 1, "email": v}) for v in ("x@y", "z@y"))
    assert first == mask.row("shop.user", {"id": 1, "email": "x@y"})
    assert first["email"] != second["email"]
    assert first["id"] == 1
    assert "x@y" not in str(first)
    assert mask.row("shop.user", {"email": None}) == {"email": None}
    assert mask.row("shop.other", {"email": "x@y"}) == {"email": "x@y"}


def asked_again(function: str, **changes: Any) -> Replayed:
    table = {"policy": "function", "function": f"tests.faults.deciding:{function}"}
    site = {"source": {"user": "u", "password_env": "X"}}
    raw = {
        "name": "shop",
        "sites": {n: {"host": n, **site, "applier": site["source"]} for n in "ab"},
        "conflicts": {"tables": {"shop.user": table}},
    }
    base = {"id": 2, "v": "old"}
    logged = entry(
        policy="function",
        row_before=base,
        row_local={**base, "v": "x"},
        row_after={**base, "v": "y"},
        **{
            "winner": "remote",
            "reason": "tests.faults.deciding:parcel took the earlier write",
            **changes,
        },
    )
    return replay(configuration.parse(raw, Path("/")), [logged])


def test_a_function_is_asked_again_with_what_the_log_holds() -> None:
    assert asked_again("parcel").same == 1
    (differs,) = asked_again("parcel", winner="local").differ
    assert differs["now"]["winner"] == "remote"


def test_a_function_that_was_not_asked_is_not_asked_again() -> None:
    found = asked_again("parcel", winner="open", reason="a write met several writes")
    assert (found.same, found.differ) == (0, [])
    assert found.passed_over == {"the table's function was not asked": 1}


def test_an_owner_is_found_again_in_the_versions() -> None:
    owned = {"policy": "owner_unit", "owner_column": "unit", "owners": {"7": "a"}}
    site = {"source": {"user": "u", "password_env": "X"}}
    raw = {
        "name": "shop",
        "sites": {n: {"host": n, **site, "applier": site["source"]} for n in "ab"},
        "conflicts": {"tables": {"shop.user": owned}},
    }
    row = {"id": 1, "unit": 7}
    logged = entry(
        policy="owner_unit", reason="a owns the row", row_before=row, row_local=row, row_after=row
    )
    assert replay(configuration.parse(raw, Path("/")), [logged]).same == 1


def test_the_words_of_an_earlier_release_for_an_open_row_are_no_other_decision() -> None:
    account = {"user": "u", "password_env": "X"}
    raw = {
        "name": "shop",
        "sites": {n: {"host": n, "source": account, "applier": account} for n in "ab"},
        "conflicts": {"tables": {"shop.user": {"policy": "park"}}},
    }
    row = {"id": 1}
    logged = entry(
        policy="park",
        winner="open",
        reason="the table's policy leaves it to a person",
        row_before=row,
        row_local=row,
        row_after=row,
    )
    assert replay(configuration.parse(raw, Path("/")), [logged]).same == 1
