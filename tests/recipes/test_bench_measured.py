"""Remarks on a benchmark's page survive the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iqloop.recipes.bench.measured import BEGIN, END, with_remarks, write_page


def test_remarks_are_kept_and_figures_are_not(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_page(page, "first\n", {"figure": 1})
    page.write_text(f"# Title\n\n{page.read_text()}\nWhat it says: slow, über alles.\n", encoding="utf-8")
    write_page(page, "second\n", {"figure": 2})
    told = page.read_text(encoding="utf-8")
    assert told.startswith("# Title\n\n") and told.endswith("\nWhat it says: slow, über alles.\n")
    assert "second" in told and "first" not in told and told.count(BEGIN) == told.count(END) == 1
    assert json.loads((tmp_path / "page.json").read_text()) == {"figure": 2}
    write_page(page, "second\n")
    assert page.read_text(encoding="utf-8") == told


@pytest.mark.parametrize(
    "page", ["", "# Another page\n", f"{BEGIN}\nnever ended", f"{END}\nthe wrong way round\n{BEGIN}"]
)
def test_a_page_without_the_comments_is_written_anew(page: str) -> None:
    assert with_remarks(page, "new") == f"{BEGIN}\n\nnew\n\n{END}\n"


def test_pages_of_the_project_can_be_measured_again() -> None:
    folder = Path(__file__).parents[2] / "docs/benchmarks"
    for name in ("rank", "rerank", "restore", "serve", "engines", "tools", "speed", "critic-loss"):
        page = (folder / f"{name}.md").read_text(encoding="utf-8")
        measured = page.partition(BEGIN)[2].partition(END)[0]
        assert measured.strip() and with_remarks(page, measured) == page, name
