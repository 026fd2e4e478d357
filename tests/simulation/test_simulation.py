"""Schedules by chance: what holds with the real classes does not hold with any mutation.

``make sim`` runs a million of them.
"""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import run

SCHEDULES = 5_000
MUTATED_MAX = 20_000  # most are noticed within a hundred


@pytest.mark.parametrize("block", range(5))
def test_sites_agree(block: int) -> None:
    size = SCHEDULES // 5
    for seed in range(block * size, (block + 1) * size):
        assert run(seed) == [], f"scripts/sim.py --seed {seed} --trace"


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_invariant_is_noticed(name: str) -> None:
    assert any(run(seed, MUTATIONS[name]) for seed in range(MUTATED_MAX))
