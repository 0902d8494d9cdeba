"""Pages that runs write: tables, and regions of which none keeps an old figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from chop.errors import DataError
from chop.report.markdown import markdown_table, update_page

PAGE = """# Page
<!-- begin one -->
old
<!-- end one -->
between
<!-- begin two -->
<!-- end two -->
"""


def test_a_table_aligns_numbers() -> None:
    rows = [("a|b", 1234, 0.5, "12 %"), ("c", 2, 1234.6, "-")]
    assert markdown_table(("name", "n", "x", "share"), rows) == (
        "| name | n | x | share |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a\\|b | 1,234 | 0.5 | 12 % |\n"
        "| c | 2 | 1,235 | - |\n"
    )


def test_regions_are_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for _ in range(2):
        update_page(page, {"two": "x\\1\n", "one": "new"})
    assert page.read_text() == PAGE.replace("old", "new").replace(
        "<!-- end two", "x\\1\n<!-- end two"
    )


@pytest.mark.parametrize("regions", [{"one": ""}, {"one": "", "two": "", "three": ""}])
def test_no_region_is_forgotten(tmp_path: Path, regions: dict[str, str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    line = (
        f"page '{page}': its regions are one, two, what was written is "
        f"{', '.join(regions)}; make them the same"
    )
    with pytest.raises(DataError, match=f"^{line}$"):
        update_page(page, regions)
    assert page.read_text() == PAGE
