"""Chromium, driven by Playwright: the machine's own, or Debian's from the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from drc.errors import DrcError
from drc.sandbox.fetch import Say, cached, loader, unpack_debian

_PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
# The loader lies beside Chromium, as Chromium looks for files beside the executed program.
# Chromium starts again for each process; each start must go through the loader, too.
_RUN = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export FONTCONFIG_SYSROOT=${here%/usr/lib/chromium}
exec "$here/loader" --library-path "LIBRARIES" "$here/chromium-headless-shell" \\
    --browser-subprocess-path="$here/run" --no-zygote "$@"
"""


def chromium() -> str:
    """Return the path of the program, fetched once if needed.

    :raises DrcError: Chromium does not exist here, and cannot be fetched.
    """
    own = os.environ.get("CHROMIUM") or shutil.which("chromium")
    return own or str(cached("chromium", _fetch, print) / "usr/lib/chromium/run")


def _fetch(into: Path, say: Say) -> None:
    unpack_debian("sid", _PACKAGES, into, say)
    own, _, libraries = loader(into)
    place = into / "usr/lib/chromium"
    shutil.copy2(own, place / "loader")
    folder = Path("$here/../") / Path(libraries.partition(":")[0]).name
    run = place / "run"
    run.write_text(_RUN.replace("LIBRARIES", f"{folder}:{folder}/pulseaudio"))
    run.chmod(0o755)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser for a module, as Playwright's event loop must end before others begin."""
    try:
        program = chromium()
    except DrcError as error:
        pytest.skip(f"no Chromium here: {error}; name one by CHROMIUM")
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield one
        one.close()


class Witness:
    """Events of a page that are not visible: requests, and complaints."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.refusals = False  # refusals are expected; the browser logs each, even if handled
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        refusal = message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not (refusal and self.refusals):
            self.complaints.append(message.text)

    def assert_quiet(self, address: str) -> None:
        """Check that nothing left the machine, and that nothing went wrong."""
        assert self.requests
        assert [url for url in self.requests if not url.startswith(address + "/")] == []
        assert self.complaints == []


def shots() -> Path:
    """Return the folder for screenshots."""
    folder = Path(__file__).parents[2] / ".sandbox/screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
