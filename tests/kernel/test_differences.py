"""The page of known differences is the list."""

from __future__ import annotations

from pathlib import Path

from kernel.differences import page


def test_the_page_is_made_from_the_list() -> None:
    assert Path(__file__).with_name("DIFFERENCES.md").read_text() == page()
