"""What a check says, and what a check is. The checks themselves are in their own modules."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from photo_pipeline.core.doctor.patient import Patient


class Status(StrEnum):
    """How one prerequisite is."""

    OK = "ok"
    PROBLEM = "problem"
    DOWN = "down"  # something outside does not answer: nobody has to change anything here
    SKIPPED = "skipped"  # not needed, or it cannot be seen while something else is wrong


@dataclass(frozen=True)
class Finding:
    """What was seen.

    Attributes:
        status: How it is.
        detail: What was seen, as one clause.
        fix: What to do about it; empty unless it is a problem or something is down.
        subject: Which of several things (a source, a root); empty where there is only one.
    """

    status: Status
    detail: str
    fix: str = ""
    subject: str = ""


Look = Callable[["Patient"], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One prerequisite.

    Attributes:
        name: What is checked, as the table shows it.
        group: Which part of the installation it belongs to.
        look: Looks, and says what it saw. One of our errors that it raises is a problem (or something down).
        needs: Names of the checks without which nothing can be seen here.
    """

    name: str
    group: str
    look: Look
    needs: tuple[str, ...] = ()


def ok(detail: str, *, subject: str = "") -> Finding:
    """Return that all is well."""
    return Finding(Status.OK, detail, subject=subject)


def problem(detail: str, *, fix: str, subject: str = "") -> Finding:
    """Return what is wrong and what to do."""
    return Finding(Status.PROBLEM, detail, fix, subject)


def down(detail: str, *, fix: str) -> Finding:
    """Return what does not answer."""
    return Finding(Status.DOWN, detail, fix)


def skipped(reason: str, *, subject: str = "") -> Finding:
    """Return why nothing was looked at."""
    return Finding(Status.SKIPPED, reason, subject=subject)
