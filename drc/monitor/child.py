"""``python -m drc.monitor.child PARENT …``: the same as ``drc …``, and it ends with its parent.

A daemon that outlives the supervisor would apply beside the one that the next supervisor starts.
So the kernel is told to kill this process before anything is imported that takes time.

The kernel means the *thread* that started this process: it must live for as long (manual of
prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def child_command(*args: str) -> list[str]:
    """Return the command that runs ``drc ARGS`` as a child of the calling process."""
    return [sys.executable, "-m", "drc.monitor.child", str(os.getpid()), *args]


def _main() -> NoReturn:
    parent = int(sys.argv.pop(1))
    if sys.platform == "linux":  # elsewhere only the ledger keeps a second daemon out
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)
    from drc.cli import main

    main()


if __name__ == "__main__":
    _main()
