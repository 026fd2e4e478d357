"""The dashboard's files: complete, nothing inline, and no value taken for markup."""

from __future__ import annotations

import asyncio
import re
from importlib import resources

import pytest
from starlette.requests import Request
from starlette.responses import Response

from drc.web import page

FILES = {file.name: file.read_text() for file in (resources.files("drc.web") / "page").iterdir()}


def served(*, asks_token: bool = False) -> dict[str, Response]:
    request = Request({"type": "http", "method": "GET", "headers": []})
    return {r.path: asyncio.run(r.endpoint(request)) for r in page.routes(asks_token=asks_token)}


def test_every_file_is_served_under_the_policy() -> None:
    answers = served()
    assert set(answers) == {"/"} | {f"/page/{n}" for n in FILES if n != "index.html"}
    for answer in answers.values():
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_what_a_file_names_is_there() -> None:
    answers = served()
    named = re.findall(r'(?:href|src)="(/[^"]*)"', FILES["index.html"])
    assert named
    assert set(named) <= set(answers)
    for name, text in FILES.items():
        imported = set(re.findall(r'from "\./([^"]+)"', text))
        assert imported <= set(FILES), name


def test_the_page_asks_for_a_token_where_one_is_needed() -> None:
    for asks, wanted in ((True, b'data-token="asked"'), (False, b'data-token="none"')):
        assert wanted in bytes(served(asks_token=asks)["/"].body)


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_inline_or_from_elsewhere(name: str) -> None:
    """Name inline code before a browser refuses the code by policy and somebody wonders why."""
    text = FILES[name]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=\"", text)
    assert set(re.findall(r"\w+://[\w.]+", text)) <= {"http://www.w3.org"}  # SVG's own name
