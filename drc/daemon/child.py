"""``python -m drc.daemon.child PARENT …``: the same as ``drc …``, and it ends with its parent.

A daemon that outlives the supervisor would apply beside the one that the next supervisor starts.
So the kernel is told to kill this process before anything is imported that takes time: this module
stands where no package imports click on the way, and starts the whole program by its name.

The kernel means the *thread* that started this process: it must live for as long (manual of
prctl(2), PR_SET_PDEATHSIG).
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
    if sys.platform == "linux":  # elsewhere only the ledger keeps a second daemon out
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)
    runpy.run_module("drc.cli", run_name="__main__")


if __name__ == "__main__":
    _main()
