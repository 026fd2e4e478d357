"""The dashboard of a real pair: both directions under load, a pause, and a conflict."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from drc.sandbox import Sandbox
from drc.sandbox.process import free_port
from tests.browser.fix_browser import Witness, shots
from tests.faults.fix_daemon import LONG, StartDaemon

pytestmark = [pytest.mark.servers, LONG]

TOKEN = "of-the-test-0123456789"
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
OWN = "a → b"


@pytest.fixture
def load(pair: Sandbox, schema: str) -> Iterator[threading.Event]:
    """Return an event; once set, each site writes a row of its own, again and again."""
    begin, end = threading.Event(), threading.Event()

    def write(site: str) -> None:
        begin.wait()
        number = 0
        with pair.sites[site].connect("app") as conn, conn.cursor() as cursor:
            while not end.wait(0.02):
                number += 1
                cursor.execute(f"REPLACE INTO `{schema}`.t VALUES (%s, %s)", (site, number))

    threads = [threading.Thread(target=write, args=(site,)) for site in pair.sites]
    for thread in threads:
        thread.start()
    yield begin
    end.set()
    begin.set()
    for thread in threads:
        thread.join()


def test_a_pair_is_watched_and_paused(
    pair: Sandbox,
    schema: str,
    daemon: StartDaemon,
    load: threading.Event,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRC_TOKEN", TOKEN)
    ports = {name: free_port() for name in pair.sites}
    options = {"web": {"token_env": "DRC_TOKEN"}, "monitor": {"canary_s": 1}}
    running = daemon(pair, listen=ports, **options)
    a, b = pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.t (id VARCHAR(9) PRIMARY KEY, v VARCHAR(99))", account="app")
    a.query(f"INSERT INTO `{schema}`.t VALUES ('both', '')", account="app")
    running.drain(schema)
    load.set()
    address = f"http://127.0.0.1:{ports['b']}"
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        witness = Witness(page)
        page.goto(address)
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()

        def command(action: str) -> None:
            page.get_by_role("button", name=f"{action} {OWN}").click()
            page.get_by_label("Reason").fill(f"{action} of the test")
            page.get_by_role("dialog").get_by_role("button", name=action).click()
            expect(page.get_by_role("dialog")).to_be_hidden(timeout=30_000)

        for lane in page.locator("#map .lane .rate").all():
            expect(lane).to_contain_text("trx/s", timeout=30_000)
            before = lane.text_content()
            expect(lane).not_to_have_text(before or "", timeout=30_000)
        own = page.locator(f'[data-stream="{OWN}"]')
        expect(own).to_contain_text("Canary landed")
        command("Pause")
        expect(own).to_have_attribute("data-state", "paused", timeout=30_000)
        a.query(f"UPDATE `{schema}`.t SET v = %s WHERE id = 'both'", (EVIL,), account="app")
        b.query(f"UPDATE `{schema}`.t SET v = 'of b' WHERE id = 'both'", account="app")
        page.screenshot(path=shots() / "pair-paused.png", full_page=True)
        command("Resume")
        expect(own).to_have_attribute("data-state", "running", timeout=30_000)
        versions = page.locator("#conflicts details").first
        versions.locator("summary").click(timeout=60_000)
        expect(versions).to_contain_text(EVIL)
        expect(page.locator("#audit")).to_contain_text("Pause of the test", timeout=30_000)
        page.screenshot(path=shots() / "pair.png", full_page=True)
        assert page.locator("main script, main img").count() == 0
        assert page.title() != "owned"
        page.close()
        witness.assert_quiet(address)
    assert running.stop() == 0
