"""The supervisor: small scripts stand in for the daemons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drc import __version__
from drc.daemon import supervisor
from drc.daemon.child import child_command
from drc.daemon.supervisor import TEMPORARY, Supervisor

ROOT = Path(__file__).parents[3]
WAIT_S = 20


class _Scripted(Supervisor):
    """A supervisor that starts scripts, in sequence for each site, in place of daemons."""

    def __init__(self, scripts: dict[str, list[str]], stop: threading.Event) -> None:
        super().__init__(Path("x.toml"), list(scripts), stop, drain_s=2)
        self._scripts = scripts
        self.started: list[str] = []
        self.checked: list[bool] = []
        self.event = threading.Event()

    def _spawn(self, site: str, *, checked: bool) -> Any:
        self.started.append(site)
        self.checked.append(checked)
        script = self._scripts[site].pop(0)
        if "ready" in script:
            child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
            assert child.stdout
            with child.stdout:
                child.stdout.readline()
        else:
            child = subprocess.Popen([sys.executable, "-c", script])
        if not any(self._scripts.values()):
            self.event.set()
        return child


EXIT = "import sys; sys.exit({})"
DIE = "import os; os.kill(os.getpid(), 9)"
DRAIN = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF_FIRST_S", 0.01)


def test_the_worst_code_is_ours_and_nothing_is_started_again() -> None:
    box = _Scripted({"a": [EXIT.format(2)], "b": [EXIT.format(3)]}, threading.Event())
    assert box.run() == 3
    assert sorted(box.started) == ["a", "b"]


@pytest.mark.parametrize("first", [DIE, EXIT.format(TEMPORARY)])
def test_what_passes_by_itself_is_started_again_and_checked_anew(first: str) -> None:
    box = _Scripted({"a": [first, first, EXIT.format(0)]}, threading.Event())
    assert box.run() == 0
    assert box.started == ["a"] * 3
    assert box.checked == [True, False, False]


def test_stop_drains_all_children() -> None:
    stop = threading.Event()
    box = _Scripted({"a": [DRAIN], "b": [EXIT.format(1)]}, stop)

    def end() -> None:
        assert box.event.wait(WAIT_S)
        stop.set()

    threading.Thread(target=end).start()
    assert box.run() == 1
    assert box._children["a"].returncode == 0


def test_a_child_that_does_not_drain_is_killed() -> None:
    stop = threading.Event()
    box = _Scripted({"a": [STUBBORN]}, stop)
    box._drain_s = 0.2
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(box.run()))
    thread.start()
    assert box.event.wait(WAIT_S)
    stop.set()
    thread.join(WAIT_S)
    assert outcome == [1]
    assert box._children["a"].returncode == -signal.SIGKILL


# A module in place of `click`, the first slow import: importing this module never ends.
IMPORT_THAT_HANGS = f"""
import signal
print("importing", flush=True)
signal.alarm({WAIT_S})
signal.pause()
"""
PARENT = """
import threading
from pathlib import Path
from drc.daemon.child import child_command
from drc.daemon.supervisor import Supervisor
Supervisor(Path("x.toml"), ["a"], threading.Event(), 1).run()
"""


@pytest.mark.timeout(WAIT_S - 5)
def test_a_child_ends_with_a_killed_parent_even_while_it_imports(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(IMPORT_THAT_HANGS)
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "importing\n"
        parent.kill()
        # The child inherited standard output, so the pipe closes when the child is gone.
        assert parent.stdout.read() == ""


def test_a_child_whose_parent_is_gone_already_does_nothing() -> None:
    def version(command: list[str]) -> tuple[int, str]:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    command = child_command("--version")
    assert version(command) == (0, f"drc, version {__version__}\n")
    command[command.index(str(os.getpid()))] = "1"
    assert version(command) == (1, "")
