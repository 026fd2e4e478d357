"""CPU and wall time of processes over a window. Edge: the kernel's clocks.

1. A process's CPU time is read from its own kernel clock, to the nanosecond and of all its
   threads, dead ones included; ``/proc/PID/stat`` counts the same time in steps of 10 ms.
2. What everyone else on the machine used meanwhile is told too: a figure measured beside a
   neighbour's load is no figure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SCHED_CLOCK = 2  # CPUCLOCK_SCHED, kernel: include/linux/posix-timers.h


def cpu_s(pid: int) -> float:
    """Return the CPU time, user and system, that a running process has used.

    Source: clock_getcpuclockid(3), whose encoding this is.
    """
    return time.clock_gettime(~pid << 3 | _SCHED_CLOCK)


def milliseconds(sorted_ns: Sequence[int], share: float) -> float:
    """Return what so large a share of them does not exceed."""
    return sorted_ns[min(len(sorted_ns) - 1, int(len(sorted_ns) * share))] / 1e6


def _busy_s() -> float:
    """Return the CPU time that the machine has given to anyone, stolen time included."""
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """A window: its length, what each process used, and the share others took of the machine."""

    wall_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    others_share: float = 0.0


class Meter:
    """Count from now on.

    :param pids: processes by name, all running; this process is always one of ours.
    """

    def __init__(self, **pids: int) -> None:
        self._pids = {"bench": os.getpid(), **pids}
        self._cpu = {name: cpu_s(pid) for name, pid in self._pids.items()}
        self._busy = _busy_s()
        self.started = time.monotonic()

    def read(self, **late: tuple[int, float]) -> Usage:
        """Return the window up to now.

        :raises OSError: one of the processes has ended.
        :param late: processes that began later: pid, and CPU seconds not to count.
        """
        wall = time.monotonic() - self.started
        used = {name: cpu_s(pid) - self._cpu[name] for name, pid in self._pids.items()}
        used |= {name: cpu_s(pid) - before for name, (pid, before) in late.items()}
        others = max(0.0, _busy_s() - self._busy - sum(used.values()))
        return Usage(wall, used, others / wall / (os.cpu_count() or 1))
