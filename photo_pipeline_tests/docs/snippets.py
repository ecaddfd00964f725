"""The pieces of code that the documentation prints, read out of its pages."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: str, language: str) -> list[str]:
    """Return the page's pieces of code in the language, in their order; `page` is relative to `docs/`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [found["code"] for found in _FENCE.finditer(text) if found["language"] == language]


def snippet(page: str, language: str, holding: str) -> str:
    """Return the one piece of code in the language that holds this text."""
    (code,) = (code for code in snippets(page, language) if holding in code)
    return code
