"""Checks the built site: every link and anchor leads somewhere, and no page asks another host for anything.

`python -m docs_tools.links SITE` prints what is wrong and ends with 1; the README's links are checked along.
Links to other hosts that a reader may follow are left alone: whether those answer is not ours to say.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
# What a browser fetches by itself when it opens a page; `<a>` waits for a click.
_FETCHED = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "srcset",
    "object": "data",
}
_METADATA = {"canonical", "alternate", "next", "prev"}
_STYLE_URL = re.compile(r"url\(\s*['\"]?(?!data:|#)([^)'\"]+)|@import\s+['\"]([^'\"]+)")
_MARKDOWN_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
# Markdown that a stricter parser than GitHub's left as it stands.
_NOT_RENDERED = re.compile(r"^(\||[-*] \S|#{1,4} \S|```)")


@dataclass
class Page:
    """What the checks need of one built page."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    raw_markdown: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.anchors |= {values[name] for name in ("id", "name") if name in values}
        self._inside = tag
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        if _FETCHED.get(tag) in values and values.get("rel") not in _METADATA:
            self.page.fetched.append(values[_FETCHED[tag]])

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.page.fetched += _style_urls(data)
        if self._inside == "p" and any(_NOT_RENDERED.match(line) for line in data.splitlines()):
            self.page.raw_markdown.append(data.strip()[:60])


def _style_urls(text: str) -> list[str]:
    return [first or second for first, second in _STYLE_URL.findall(text)]


def read_page(html: str) -> Page:
    """Return the anchors and links of a page."""
    reader = _Reader()
    reader.feed(html)
    return reader.page


def problems_of_site(site: Path) -> list[str]:
    """Return what is wrong with the built site, one sentence each."""
    pages = {path: read_page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site}: there is no page"]
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        # The page for missing addresses is served from anywhere, so its links begin at the root.
        base = site if name.name == "404.html" else path.parent
        found += [f"{name}: {why}" for link in page.links for why in _broken(link, path, base, pages)]
        found += [f"{name}: {why}" for link in page.fetched for why in _foreign(link, base)]
        found += [f"{name}: not rendered: {text!r}" for text in page.raw_markdown]
    for sheet in sorted(site.rglob("*.css")):
        urls = _style_urls(sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(site)}: {why}" for url in urls for why in _foreign(url, sheet.parent)]
    return found


def _broken(link: str, path: Path, base: Path, pages: dict[Path, Page]) -> Iterator[str]:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        yield f"the link {link} leads nowhere"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        yield f"the link {link} names an anchor that is not there"


def _foreign(url: str, base: Path) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.netloc:
        yield f"the browser would ask {parts.netloc} for {url}"
    elif not parts.scheme and not (base / unquote(parts.path).lstrip("/")).exists():
        yield f"{url} is not there"


def problems_of_readme(readme: Path, site: Path) -> list[str]:
    """Return the README's links that lead nowhere; pages' anchors are looked for in the built site."""
    text = re.sub(r"```.*?```", "", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = []
    for link in _MARKDOWN_LINK.findall(text):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = readme.parent / unquote(parts.path) if parts.path else readme
        if not target.exists():
            found.append(f"{readme.name}: the link {link} leads nowhere")
        elif parts.fragment and target.suffix == ".md" and target != readme:
            page = site / target.resolve().relative_to(readme.parent.resolve() / "docs").with_suffix(".html")
            if parts.fragment not in read_page(page.read_text(encoding="utf-8")).anchors:
                found.append(f"{readme.name}: the link {link} names an anchor that is not there")
    return found


def main() -> int:
    """Print what is wrong; return the exit code."""
    site = Path(sys.argv[1]).resolve()
    problems = problems_of_site(site) + problems_of_readme(ROOT / "README.md", site)
    for problem in problems:
        print(problem)
    print(f"{len(list(site.rglob('*.html')))} pages: {len(problems)} problems with links")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
