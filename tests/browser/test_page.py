"""The dashboard in a real browser, over a fake of a daemon's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from drc.monitor.document import Desired
from tests.browser.fake import EVIL, TOKEN, FakeDaemon, served
from tests.browser.fix_browser import Witness, shots
from tests.faults.fix_daemon import LONG

pytestmark = LONG
NOW_US, WELL = 10**15, "All is well. The stream runs."
OWN, OTHER = "shanghai → beijing", "beijing → shanghai"


@pytest.fixture
def fake() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
def address(fake: FakeDaemon) -> Iterator[str]:
    with served(fake.app()) as address:
        yield address


@pytest.fixture
def witness(browser: Browser, address: str) -> Iterator[Witness]:
    """Open a page before the login; at the end the page must have been quiet."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        witness = Witness(context.new_page())
        witness.page.goto(address)
        yield witness
        witness.page.close()
        witness.assert_quiet(address)


@pytest.fixture
def page(witness: Witness) -> Page:
    return witness.page


def login(page: Page) -> None:
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#live")).to_have_text("live")


def command(page: Page, action: str, reason: str) -> None:
    page.get_by_role("button", name=f"{action} {OWN}").click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("dialog").get_by_role("button", name=action).click()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_both_directions_are_shown_and_move(page: Page) -> None:
    login(page)
    lanes = page.locator("#map .lane .rate")
    expect(lanes).to_have_count(2)
    for name in (OWN, OTHER):
        card = page.locator(f'[data-stream="{name}"]')
        expect(card).to_have_attribute("data-state", "running")
        for text in ("trx/s", "Lag, 99.9 %", "Canary landed"):
            expect(card).to_contain_text(text)
    for lane in lanes.all():
        before = lane.text_content()
        expect(lane).not_to_have_text(before or "", timeout=20_000)
    expect(page.locator("#lag-chart path.line")).to_have_count(5)
    expect(page.get_by_role("status")).to_have_text(
        "Both directions run, but 1 conflict waits for an operator."
    )


def test_pause_and_resume(page: Page, fake: FakeDaemon) -> None:
    login(page)
    card = page.locator(f'[data-stream="{OWN}"]')
    command(page, "Pause", "a disk is full")
    expect(card).to_have_attribute("data-state", "paused")
    expect(page.get_by_role("status")).to_have_text(f"{OWN} is paused by an operator.")
    expect(page.locator("#help code")).to_have_text("drc resume shanghai beijing")
    expect(page.locator("#audit")).to_contain_text("a disk is full")
    expect(page.locator("#map .lane").first).to_contain_text("paused")
    command(page, "Resume", "there is room again")
    expect(card).to_have_attribute("data-state", "running")
    said = [(origin, action, body["reason"]) for origin, action, body in fake.commands]
    wanted = [("pause", "a disk is full"), ("resume", "there is room again")]
    assert said == [("shanghai", *one) for one in wanted]


def test_a_command_needs_a_reason_and_can_be_left(page: Page, fake: FakeDaemon) -> None:
    """Use the keyboard alone."""
    login(page)
    stop = page.get_by_role("button", name=f"Stop {OWN}")
    stop.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(stop).to_be_focused()
    assert fake.commands == []


def test_markup_in_values_stays_text(page: Page, fake: FakeDaemon) -> None:
    fake.changes = {
        "state": "stopped",
        "error": {"message": EVIL, "hint": EVIL, "table": EVIL},
        "blocked": {"since_us": 1, "what": EVIL, "sentence": EVIL, "command": EVIL},
    }
    fake.controls = {"shanghai->beijing": Desired(desired="stopped", reason=EVIL)}
    fake.audit.append(dict.fromkeys(("actor", "action", "subject", "reason"), EVIL) | {"at_us": 1})
    login(page)
    page.locator("#conflicts summary").first.click()
    for place in ("#conflicts .versions", "#verdict", f'[data-stream="{OWN}"]', "#audit"):
        expect(page.locator(place).first).to_contain_text(EVIL)
    assert page.locator("main script, main img, main [onerror]").count() == 0
    assert page.title() != "owned"


def test_what_is_old_is_said_to_be(witness: Witness, fake: FakeDaemon) -> None:
    """Check that the page recovers without help, too."""
    page, witness.refusals = witness.page, True
    login(page)
    fake.deaf.set()
    banner = page.get_by_role("alert").filter(has_text="Not live since")
    expect(banner).to_be_visible(timeout=20_000)
    expect(page.get_by_role("status")).to_contain_text("not known")
    fake.deaf.clear()
    expect(banner).to_be_hidden(timeout=20_000)
    expect(page.get_by_role("status")).to_contain_text("Both directions run")


def test_a_wrong_token_is_asked_for_again(witness: Witness) -> None:
    page, witness.refusals = witness.page, True
    page.get_by_label("Token").fill("not-this-one-0123456789")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#login-error")).to_have_text("The daemon refuses this token.")
    assert page.evaluate("sessionStorage.length") == 0
    login(page)


@pytest.mark.parametrize(
    ("stream", "level", "sentence"),
    [
        ({}, "ok", WELL),
        (
            {"state": "need_reseed"},
            "bad",
            "a → b cannot go on: the missing transactions exist nowhere any more.",
        ),
        (
            {"state": "stopped", "error": {"message": "x"}},
            "bad",
            "a → b has stopped and needs you.",
        ),
        ({"state": "stopped"}, "watch", "a → b is stopped by an operator."),
        ({"state": "connecting"}, "watch", "a → b is connecting."),
        ({"blocked": {"sentence": "x"}}, "watch", "a → b is blocked."),
        ({"behind": {"seconds": 75}}, "watch", "b is 70 s behind a."),
        ({"canary": {"bounced": 1}}, "bad", "A change from b came back to b."),
        ({"canary": {"every_s": 1.0, "landed_us": NOW_US - 2_000_000}}, "ok", WELL),
        (
            {"canary": {"every_s": 1.0, "landed_us": NOW_US - 40_000_000}},
            "watch",
            "No canary of a has landed at b for 40 s.",
        ),
    ],
)
def test_the_first_line(page: Page, stream: dict[str, Any], level: str, sentence: str) -> None:
    told = {"origin": "a", "target": "b", "state": "running", "lag_us_p50": 1, "lag_us_p99": 2}
    said = {"site": "b", "now_us": NOW_US, "streams": [told | stream]}
    found = page.evaluate(
        """async (said) => {
          const { directions, verdict, Meter } = await import("/page/facts.js");
          return verdict(directions(said, null, new Meter()), null, []);
        }""",
        said,
    )
    assert (found["level"], found["sentence"]) == (level, sentence)


# ------------------------------------------------------------ appearance

_CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => {
    const [r, g, b] = c
      .map((x) => x / 255)
      .map((x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a] = rgba(getComputedStyle(at).backgroundColor);
      if (a === 255) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const out = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].filter((x) => x.nodeType === 3);
    const text = own.map((x) => x.data.trim()).join("");
    if (!text || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const colour = rgba(node instanceof SVGElement ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(colour), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) out.push([text, ratio]);
  }
  return out;
}"""


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 320)],
)
def test_it_can_be_read(
    browser: Browser, fake: FakeDaemon, address: str, name: str, scheme: Any, width: int
) -> None:
    with browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    ) as context:
        page = context.new_page()
        page.goto(address)
        login(page)
        expect(page.locator("#lag-chart path.line")).to_have_count(5)
        expect(page.locator("#conflicts tbody tr").first).to_be_visible()
        page.screenshot(path=shots() / f"dashboard-{name}.png", full_page=True)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        assert page.evaluate(_CONTRAST) == []
        command(page, "Pause", "to look at it")
        expect(page.locator("#verdict")).to_have_attribute("data-level", "watch")
        page.screenshot(path=shots() / f"dashboard-{name}-paused.png", full_page=True)
        assert page.evaluate(_CONTRAST) == []
