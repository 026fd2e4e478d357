"""Chromium, for the tests of this folder."""

from tests.browser.fix_browser import browser

__all__ = ["browser"]
