"""Random schedules: the promises hold with the real classes, and break with every mutation.

``make sim`` runs a million schedules.
"""

from __future__ import annotations

import pytest

from drc.policy import TablePolicy
from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import Setting, run

SCHEDULES = 5_000
MUTATED_MAX = 20_000  # most mutations are noticed within a hundred


@pytest.mark.parametrize("block", range(5))
def test_sites_agree(block: int) -> None:
    size = SCHEDULES // 5
    for seed in range(block * size, (block + 1) * size):
        assert run(seed) == [], f"scripts/sim.py --seed {seed} --trace"


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_invariant_is_noticed(name: str) -> None:
    assert any(run(seed, MUTATIONS[name]) for seed in range(MUTATED_MAX))


def test_a_preference_does_not_make_three_sites_agree() -> None:
    """Show the cycle for which drc refuses the policy at three sites.

    A is preferred to B, C comes after A, B is newer than C.
    """
    setting = Setting(3, TablePolicy(policy="site_priority", sites=("b", "a", "c")))
    assert any("differs" in str(run(seed, setting=setting)) for seed in range(MUTATED_MAX))


def test_counters_of_three_sites_need_the_wait_for_what_was_seen() -> None:
    setting = Setting(3, TablePolicy(columns={"counter": "delta"}))
    parts = MUTATIONS["Impatient"]
    assert any("differs" in str(run(seed, parts, setting=setting)) for seed in range(MUTATED_MAX))
