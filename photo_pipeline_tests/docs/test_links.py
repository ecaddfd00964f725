"""The look for dead links sees each kind of them, and the README's promises lead to their tests.

`make docs-check` looks at the real site; here it is a small one with one fault at a time.
"""

import re
from pathlib import Path

import pytest

from docs_tools.links import problems_of_readme, problems_of_site

ROOT = Path(__file__).resolve().parents[2]
GOOD = '<h1 id="top">A</h1><p>text</p><a href="b.html#end">b</a><img src="a.png"><a href="https://else.example/">e</a>'


def site_with(folder: Path, page: str) -> Path:
    (folder / "a.html").write_text(page, encoding="utf-8")
    (folder / "b.html").write_text('<p id="end">b</p>', encoding="utf-8")
    (folder / "a.png").write_bytes(b"")
    return folder


def test_a_site_in_order_has_no_problems(tmp_path: Path) -> None:
    assert problems_of_site(site_with(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ('<a href="c.html">c</a>', "a.html: the link c.html leads nowhere"),
        ('<a href="b.html#start">b</a>', "a.html: the link b.html#start names an anchor that is not there"),
        ('<a href="#bottom">b</a>', "a.html: the link #bottom names an anchor that is not there"),
        ('<img src="b.png">', "a.html: b.png is not there"),
        (
            '<script src="https://cdn.example/a.js"></script>',
            "a.html: the browser would ask cdn.example for https://cdn.example/a.js",
        ),
        (
            "<style>@import 'https://fonts.example/a.css'</style>",
            "a.html: the browser would ask fonts.example for https://fonts.example/a.css",
        ),
        ("<p>| a | b |\n| --- | --- |</p>", "a.html: not rendered: '| a | b |\\n| --- | --- |'"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, fault: str, problem: str) -> None:
    assert problems_of_site(site_with(tmp_path, GOOD + fault)) == [problem]


def test_a_dead_link_of_the_readme_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "[a](docs/none.md) [b](README.md) ```\n[c](no)\n```", encoding="utf-8"
    )
    assert problems_of_readme(tmp_path / "README.md", tmp_path) == [
        "README.md: the link docs/none.md leads nowhere"
    ]


def test_each_promise_of_the_readme_links_to_a_test_that_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## What it promises")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 20
    for row in rows:
        links = re.findall(r"\]\((photo_pipeline_tests/[^)]+)\)", row)
        assert links, f"no link to a test: {row}"
        assert [link for link in links if not _holds_tests(ROOT / link)] == []


def _holds_tests(place: Path) -> bool:
    files = place.glob("test_*.py") if place.is_dir() else [place]
    return any("\ndef test_" in file.read_text(encoding="utf-8") for file in files if file.is_file())
