"""Looks through the application's code and configuration for what still refers to the local folders.

A reader's help before the clean-up: it matches text, so it finds what is written out and not what is put
together at run time. Reads only; follows no link.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError

# Folders of other people's code and of tools, and what is no text.
_SKIPPED = {".git", ".hg", ".svn", "node_modules", "vendor", ".venv", "venv", "__pycache__", ".tox", "dist"}
_MAX_FILE_BYTES = 2_000_000
_SHOWN = 160
# A prefix as short as "/" would match everything.
_SHORTEST = 4


@dataclass(frozen=True)
class CodeReference:
    """One line that names a local folder or the URLs that lead into it."""

    path: str
    line: int
    names: str
    text: str


@dataclass(frozen=True)
class CodeScan:
    """What was looked through, and what was found."""

    files: int
    references: tuple[CodeReference, ...]
    skipped: int
    """Files that were too large, no text, or could not be read."""


def scan_code(config: PipelineConfig, folder: Path) -> CodeScan:
    """Return each line below the folder that has a root's directory or one of its URL prefixes.

    Raises:
        ConfigurationError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            str(folder), cause="it is no folder", fix="name the folder with the application's code"
        )
    needles = local_names(config)
    roots = [root.dir.resolve() for root in config.roots]
    files = skipped = 0
    found: list[CodeReference] = []
    for path in _files(folder, roots):
        text = _text(path)
        if text is None:
            skipped += 1
            continue
        files += 1
        found += _lines(path, text, needles)
    return CodeScan(files, tuple(found), skipped)


def local_names(config: PipelineConfig) -> tuple[str, ...]:
    """Return what code may call the local folders: their directories and URL prefixes, the longest first."""
    names = {str(root.dir).rstrip("/") for root in config.roots}
    names |= {prefix.rstrip("/") for root in config.roots for prefix in root.url_prefixes}
    return tuple(sorted((each for each in names if len(each) >= _SHORTEST), key=len, reverse=True))


def _files(folder: Path, roots: list[Path]) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=False):
        here = Path(parent)
        folders[:] = sorted(
            each for each in folders if each not in _SKIPPED and (here / each).resolve() not in roots
        )
        yield from (here / name for name in sorted(names) if not (here / name).is_symlink())


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return None if b"\0" in data else data.decode(errors="replace")


def _lines(path: Path, text: str, needles: tuple[str, ...]) -> Iterator[CodeReference]:
    if not any(needle in text for needle in needles):
        return
    for number, line in enumerate(text.splitlines(), start=1):
        needle = next((each for each in needles if each in line), None)
        if needle is not None:
            yield CodeReference(str(path), number, needle, line.strip()[:_SHOWN])
