"""Writes the pages of `docs/reference/` that are made from the code: `python -m docs_tools.reference`."""

from collections.abc import Callable
from pathlib import Path

from docs_tools.cli_reference import cli_reference
from docs_tools.configuration_reference import configuration_reference

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration_reference,
    "cli.md": cli_reference,
}


def main() -> None:
    """Write each page that is not current."""
    for name, make in PAGES.items():
        page, text = FOLDER / name, make()
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            print(f"{page} was written")


if __name__ == "__main__":
    main()
