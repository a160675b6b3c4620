"""The reference pages in docs/ say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from actsearch.reference import PAGES

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_is_up_to_date(name):
    assert (DOCS / name).read_text("utf8") == PAGES[name](), "run: python -m actsearch.reference"
