"""A child process: ``python -m drc.daemon.child PARENT …`` runs ``drc …`` and ends with PARENT.

A daemon that outlived the supervisor would apply beside the daemon that the next supervisor
starts. So this module first asks the kernel to kill this process at the parent's death, then
imports anything slow: the package of this module imports no click, and the program is started by
name.

For the kernel, the parent is the *thread* that started this process, so that thread must live as
long as this process (manual of prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def child_command(*args: str) -> list[str]:
    """Return the command that runs ``drc ARGS`` as a child of the calling process."""
    return [sys.executable, "-m", "drc.daemon.child", str(os.getpid()), *args]


def _main() -> None:
    parent = int(sys.argv.pop(1))
    if sys.platform == "linux":  # elsewhere only the epoch in the ledger keeps a second daemon out
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the call of prctl
        sys.exit(1)
    runpy.run_module("drc.cli", run_name="__main__")


if __name__ == "__main__":
    _main()
