"""What an alert is. What raises one is `conditions` (and Dagster's runs); how it is told, `channels`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

_TITLE = 200
_SUBJECT = 255


class AlertKind(StrEnum):
    """What can be wrong."""

    COST_NEAR_LIMIT = "cost_near_limit"
    UPLOADS_SUSPENDED = "uploads_suspended"
    COST_PROJECTION = "cost_projection"
    ACCOUNT_NEAR_LIMIT = "account_near_limit"
    MIGRATION_HELD_BACK = "migration_held_back"
    FAILURE_RATE = "failure_rate"
    SLOW_PHOTOS = "slow_photos"
    VALIDATION = "validation"
    OUTSIDE_ROOTS = "outside_roots"
    AUDIT_LOG = "audit_log"
    PROVISIONING_DRIFT = "provisioning_drift"
    RUN_FAILED = "run_failed"
    TEST = "test"


ALERT_RUNBOOKS: Final = {
    AlertKind.COST_NEAR_LIMIT: "docs/runbooks/budget-exhausted.md",
    AlertKind.UPLOADS_SUSPENDED: "docs/runbooks/budget-exhausted.md",
    AlertKind.COST_PROJECTION: "docs/runbooks/budget-exhausted.md",
    AlertKind.ACCOUNT_NEAR_LIMIT: "docs/runbooks/budget-exhausted.md",
    AlertKind.MIGRATION_HELD_BACK: "docs/runbooks/budget-exhausted.md",
    AlertKind.AUDIT_LOG: "docs/runbooks/audit-log-broken.md",
    AlertKind.PROVISIONING_DRIFT: "docs/runbooks/provisioning-drift.md",
}
"""The page that says what to do, by kind; of other kinds the alert itself says it."""

EVENTS = frozenset({AlertKind.RUN_FAILED})
"""Kinds that happened once, where all others last until they are seen no more."""


@dataclass(frozen=True)
class Alert:
    """Something that people should know now.

    Attributes:
        kind: What is wrong.
        subject: Of which thing; kind and subject together are what is told once.
        title: One line for people.
        detail: What else they need: the numbers, and what to do.
        level: How bad, for alerts that can grow (a count, say): a higher one is told at once.
    """

    kind: AlertKind
    subject: str
    title: str
    detail: str
    level: int = 0

    def __post_init__(self) -> None:
        # They go into headers and keys: one line each, and of a length that every database takes.
        object.__setattr__(self, "subject", " ".join(self.subject.split())[:_SUBJECT])
        object.__setattr__(self, "title", " ".join(self.title.split())[:_TITLE])


@dataclass(frozen=True)
class Message:
    """What a channel sends: one alert, open or resolved.

    Attributes:
        alert: What it is about.
        installation: Which installation it comes from.
        resolved: Whether this is the news that it is over.
        times: How often it was raised.
        since: When it was first seen (UTC).
    """

    alert: Alert
    installation: str
    resolved: bool
    times: int
    since: datetime

    @property
    def title(self) -> str:
        """The one line for subjects and logs."""
        return f"{'Resolved: ' if self.resolved else ''}{self.alert.title}"

    @property
    def text(self) -> str:
        """Everything, as plain text."""
        often = f", {self.times} times" if self.times > 1 else ""
        over = "It is over. It was:\n" if self.resolved else ""
        page = ALERT_RUNBOOKS.get(self.alert.kind)
        what_to_do = f"\nWhat to do: {page}" if page else ""
        return (
            f"{over}{self.alert.detail}{what_to_do}\n\n"
            f"photo_pipeline of {self.installation}; {self.alert.kind}, seen since "
            f"{self.since:%Y-%m-%d %H:%M} UTC{often}. All alerts: photo-pipeline alerts list"
        )
