"""Agreement of conflict logs: each pair of concurrent writes is in both, with the same winner."""

from __future__ import annotations

from drc.demo.casebook import UNIQUE, CaseEntry, agreement

A = CaseEntry("a:1", "a", 10, 7, "update_origin_differs", "local", ((20, "b", "b:1"),), 1)
B = CaseEntry("b:1", "b", 20, 7, "update_origin_differs", "remote", ((10, "a", "a:1"),), 1)


def test_a_pair_in_both_logs_with_one_winner() -> None:
    found = agreement([B], [A])
    assert found.ok
    assert found.pairs == 1


def test_no_pair_at_all_proves_nothing() -> None:
    assert not agreement([], []).ok


def test_a_pair_in_one_log_only() -> None:
    assert agreement([B], []).unpaired
    assert agreement([B], [A._replace(slot=8)]).unpaired
    assert agreement([B], [A._replace(rivals=((20, "b", "b:2"),))]).unpaired


def test_a_log_names_the_newest_rivals_only() -> None:
    counted = A._replace(rivals=((30, "b", "b:2"),), rival_count=2)
    assert agreement([B], [counted]).unpaired == ("a:1 (update_origin_differs) with b:2",)


def test_two_winners() -> None:
    assert agreement([B], [A._replace(winner="remote")]).contradicted == ("a:1 and b:1",)
    assert agreement([B], [A._replace(winner="merged")]).contradicted


def test_a_collision_of_unique_keys_has_two_rows() -> None:
    one, other = (e._replace(kind=UNIQUE, winner="open", slot=n) for n, e in enumerate((A, B)))
    assert agreement([other], [one]).ok
