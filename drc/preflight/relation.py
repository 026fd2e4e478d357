"""Relation rules: values that must be equal at two servers, and ids that must differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import gcd

from drc.preflight.facts import Facts, Finding, SiteFacts, judge

_SKEW_MAX_US = 1_000_000


def check(facts: Facts) -> Iterator[Finding]:
    """Yield findings on each pair of sites."""
    reached = {name: site for name, site in facts.items() if site.reached}
    for one, other in combinations(reached, 2):
        yield from _identity(one, other, reached)
        yield from _relation(one, other, reached)


def _identity(one: str, other: str, reached: Facts) -> Iterator[Finding]:
    a, b = reached[one], reached[other]
    both = f"{one}, {other}"
    yield judge(
        good=a.server_id != b.server_id,
        finding=Finding(
            both,
            "server_id",
            "different",
            f"{a.server_id} and {b.server_id}",
            "fail",
            "each server of a topology needs an id of its own",
            f"SET PERSIST server_id = N at {other}, with an N that no other server uses",
        ),
    )
    yield judge(
        good=a.server_uuid != b.server_uuid,
        finding=Finding(
            both,
            "server_uuid",
            "different",
            "equal" if a.server_uuid == b.server_uuid else "different",
            "fail",
            "GTIDs of two sites could not be told apart: a copied data directory, or one server"
            " named twice",
            f"stop mysqld at {other}, delete auto.cnf in the data directory, start mysqld again",
        ),
    )


def _relation(one: str, other: str, reached: Facts) -> Iterator[Finding]:
    a, b = reached[one], reached[other]
    both = f"{one}, {other}"
    for variable, level, why in (
        (
            "lower_case_table_names",
            "fail",
            "the name of a table at one site would not find the table at the other",
        ),
        (
            "max_allowed_packet",
            "warn",
            "a row that one site accepts may be too large for the other",
        ),
    ):
        x, y = a.variable(variable), b.variable(variable)
        yield judge(
            good=x == y,
            finding=Finding(
                both,
                variable,
                "equal",
                x if x == y else f"{x} and {y}",
                level,  # type: ignore[arg-type]
                why,
                "copy the data into a new server: lower_case_table_names is fixed when a data"
                " directory is made"
                if level == "fail"
                else f"SET PERSIST {variable} to the larger value at both sites",
            ),
        )
    yield from _auto_increment(both, a, b)
    skew = abs(a.clock_offset_us - b.clock_offset_us)
    yield judge(
        good=skew <= _SKEW_MAX_US,
        finding=Finding(
            both,
            "clocks",
            "within 1 s",
            f"{skew / 1e6:.3f} s apart",
            "warn",
            "drc measures lag and decides later conflicts by these clocks",
            "run NTP at both sites",
        ),
    )


def _numbers(site: SiteFacts) -> tuple[int, int]:
    names = ("auto_increment_increment", "auto_increment_offset")
    step, offset = (int(site.variable(name)) for name in names)
    return step, offset


def numbers_meet(a: SiteFacts, b: SiteFacts) -> bool:
    """Return whether both sites hand out the same automatic numbers.

    The sequences o1 + k·i1 and o2 + k·i2 share a number exactly when the offsets o1 and o2 are
    equal modulo the gcd of the steps i1 and i2. Offsets 1 and 2 with step 2 never meet.
    """
    (i1, o1), (i2, o2) = _numbers(a), _numbers(b)
    return (o1 - o2) % gcd(i1, i2) == 0


def _auto_increment(both: str, a: SiteFacts, b: SiteFacts) -> Iterator[Finding]:
    using = [
        key
        for key, table in a.tables.items()
        if key in b.tables and any(c.auto_increment for c in table.columns)
    ]
    if not using:
        return
    (i1, o1), (i2, o2) = _numbers(a), _numbers(b)
    yield judge(
        good=not numbers_meet(a, b),
        finding=Finding(
            both,
            "auto_increment_offset",
            "different remainders",
            f"offset {o1} step {i1}, and offset {o2} step {i2}",
            "warn",
            f"both sites hand out the same numbers in {len(using)} tables, such as"
            f" {'.'.join(using[0])}",
            "SET PERSIST auto_increment_increment = 2 at both sites, auto_increment_offset = 1 at"
            " one site and 2 at the other",
        ),
    )
