"""The words in which the state tables say where things stand."""

from enum import StrEnum


class PhotoClass(StrEnum):
    """The one class in which the inventory puts each reference and each unreferenced file."""

    MATCHED = "matched"
    FILE_MISSING = "file_missing"
    FILE_UNREFERENCED = "file_unreferenced"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    OUTSIDE_ROOT = "outside_root"
    ALREADY_MIGRATED = "already_migrated"


class PhotoState(StrEnum):
    """How far a photo has come. Only matched photos leave `found`."""

    FOUND = "found"
    PENDING = "pending"
    PROCESSED = "processed"
    UPLOADED = "uploaded"
    MIGRATED = "migrated"
    STORED = "stored"  # proven in the store, and its mode writes no row
    ROLLED_BACK = "rolled_back"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    SUPERSEDED = "superseded"
    DELETED = "deleted"  # by `delete`, with what was its own in the store


GONE = (PhotoState.SUPERSEDED, PhotoState.DELETED)
"""States of photos that no row shows any more, and nothing has to be done for."""


class BatchState(StrEnum):
    """Where a batch stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class Control(StrEnum):
    """What a person wants of the migration; work under way heeds it within one photo."""

    RUNNING = "running"
    PAUSED = "paused"
    ABORTED = "aborted"


class TrashState(StrEnum):
    """Where a local file is that was cleaned up; those that end in -ing are under way, or were cut off."""

    MOVING = "moving"
    TRASHED = "trashed"
    RESTORING = "restoring"
    PURGING = "purging"
    RESTORED = "restored"
    PURGED = "purged"
    REFUSED = "refused"  # never in the trash, or put back at once


class DeletionState(StrEnum):
    """How far a deletion of photos has come, as a whole or for one of its parts."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    KEPT = "kept"  # left, with the reason
    LOST = "lost"  # deleted, although something began to name it meanwhile; with no version to bring back
    UNDONE = "undone"


class RewriteOutcome(StrEnum):
    """What became of one column of one row."""

    APPLIED = "applied"
    CONFLICT = "conflict"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_CONFLICT = "rollback_conflict"
    # A later batch has set the column again: this value comes back with that batch's rollback.
    ROLLBACK_DEFERRED = "rollback_deferred"
