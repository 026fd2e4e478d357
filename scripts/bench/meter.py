"""Meter: CPU and wall time of processes over a window. Edge: the kernel's clocks.

1. A process's CPU time is exact to the nanosecond and includes all threads, ended threads too, as
   the time is read from the process's kernel clock. ``/proc/PID/stat`` counts the same time in
   steps of 10 ms.
2. The CPU that other processes of the machine used in the window is reported, too, because a figure
   that was measured beside another load proves nothing.
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

    Source: clock_getcpuclockid(3), for the encoding of the process id.
    """
    return time.clock_gettime(~pid << 3 | _SCHED_CLOCK)


def milliseconds(sorted_ns: Sequence[int], share: float) -> float:
    """Return a quantile in milliseconds.

    :param sorted_ns: durations in nanoseconds, ascending.
    :param share: for example 0.99 for the 99th percentile.
    """
    return sorted_ns[min(len(sorted_ns) - 1, int(len(sorted_ns) * share))] / 1e6


def _busy_s() -> float:
    """Return the CPU seconds that the machine has given to all processes, plus stolen time."""
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """The usage of a window.

    :param wall_s: length of the window in seconds.
    :param cpu_s: CPU seconds of each process, by name.
    :param others_share: share of the machine that other processes took, from 0 to 1.
    """

    wall_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    others_share: float = 0.0


class Meter:
    """A meter of CPU and wall time, from its creation on.

    :param pids: running processes by name; this process is always added as ``bench``.
    """

    def __init__(self, **pids: int) -> None:
        self._pids = {"bench": os.getpid(), **pids}
        self._cpu = {name: cpu_s(pid) for name, pid in self._pids.items()}
        self._busy = _busy_s()
        self.started = time.monotonic()

    def read(self, **late: tuple[int, float]) -> Usage:
        """Return the usage up to now.

        :param late: processes that started later, by name: (pid, CPU seconds not to count).
        :raises OSError: a process has ended.
        """
        wall = time.monotonic() - self.started
        used = {name: cpu_s(pid) - self._cpu[name] for name, pid in self._pids.items()}
        used |= {name: cpu_s(pid) - before for name, (pid, before) in late.items()}
        others = max(0.0, _busy_s() - self._busy - sum(used.values()))
        return Usage(wall, used, others / wall / (os.cpu_count() or 1))
