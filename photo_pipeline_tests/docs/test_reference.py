"""What the documentation says of the program is what the program says of itself."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from docs_tools.configuration_reference import undescribed
from docs_tools.reference import FOLDER, PAGES
from photo_pipeline.cli.lazy import load
from photo_pipeline.cli.program import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROSE = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_PROGRAM = re.compile(r"^(?:\.venv/bin/)?photo-pipeline$")
# A value that a reader replaces.
_PLACEHOLDER = re.compile(r"…|^[A-Z_]+$|^<.*>$")


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says_now(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs-reference`"


def test_every_key_of_the_configuration_says_what_it_means() -> None:
    assert undescribed() == []


@cache
def commands() -> dict[str, Any]:
    """Return every command by its words, as in `audit verify`."""
    found: dict[str, Any] = {}
    for listed in COMMANDS:
        command = load(listed)
        for name, each in (getattr(command, "commands", None) or {"": command}).items():
            found[f"{listed.name} {name}".strip()] = each
    return found


def code_of(page: Path) -> Iterator[str]:
    """Yield each line of code of the page, and each piece of code in its text."""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line
        else:
            yield from re.findall(r"`([^`]+)`", line)


def calls_in(code: str) -> Iterator[list[str]]:
    """Yield the words after the program's name for each call of it; text may leave the name out."""
    for words in simple_commands(code):
        named = [i for i, word in enumerate(words) if _PROGRAM.match(word)]
        if named:
            yield words[named[0] + 1 :]
        elif words[0] in {each.name for each in COMMANDS} and any(word.startswith("--") for word in words):
            yield words


def simple_commands(code: str) -> Iterator[list[str]]:
    """Yield the words of each command of the line, as a shell would split it."""
    lexer = shlex.shlex(code.replace("[", " ").replace("]", " "), posix=True, punctuation_chars="();&|>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe in a piece of prose
        return
    for between, group in groupby(words, key=lambda word: set(word) <= set("();&|>")):
        if not between:
            yield list(group)


def wrong_with(words: list[str]) -> str | None:
    """Return what is wrong with a call as it is printed, or None."""
    if words[:1] == ["--config"]:
        words = words[2:]
    if not words or words[0].startswith("-") or _PLACEHOLDER.search(words[0]):
        return None
    name = " ".join(words[:2]) if " ".join(words[:2]) in commands() else words[0]
    if any(each.startswith(f"{name} ") for each in commands()):
        return None if len(words) == 1 else f"`{name}` has no command {words[1]!r}"
    if name not in commands():
        return f"there is no command {name!r}"
    known = {text for each in commands()[name].params for text in (*each.opts, *each.secondary_opts)}
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    unknown = sorted(options - known - {"--help"})
    return f"`{name}` has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_command_that_is_printed_exists(page: Path) -> None:
    problems = [
        (words, why) for code in code_of(page) for words in calls_in(code) if (why := wrong_with(words))
    ]
    assert problems == []


def test_the_look_for_commands_sees_wrong_ones() -> None:
    lines = [
        "photo-pipeline migrat",
        "photo-pipeline --config x.yaml rollback --al",
        "photo-pipeline audit prove",
        "rollback --al",
    ]
    assert [wrong_with(words) is None for line in lines for words in calls_in(line)] == [False] * 4
    (good,) = calls_in('.venv/bin/photo-pipeline pause --reason "a && b"  # and why')
    assert wrong_with(["rollback", "--batch", "batch-000042"]) is None
    assert good[:1] == ["pause"]


@cache
def messages_of_the_source() -> tuple[str, ...]:
    """Return every text of the program, with `…` for what is filled in."""
    found = []
    for module in sorted((ROOT / "photo_pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def test_each_message_of_the_troubleshooting_page_is_one_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(quoted) >= 25
    assert [text for text in quoted if not any(text in message for message in messages_of_the_source())] == []
