"""Every link of the pages that leads to a file of the repository finds it."""

import pytest

from tests.conftest import ROOT
from tests.docs.pages import PAGES, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_a_heading_and_a_link_are_read_as_mkdocs_reads_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Half `theta`, per step\n\n[a](b.md#c) `[no](link.md)`\n\n![d](e.png)\n")
    assert anchors(page) == {"half-theta-per-step"}
    assert list(links(page)) == ["b.md#c", "e.png"]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
