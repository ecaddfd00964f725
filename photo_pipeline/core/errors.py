"""The error taxonomy: every failure a user can meet, with what to do about it.

A message has three parts: the thing (file, row, bucket, setting), the cause, and the fix. Each class
carries the process exit code that the CLI returns for it (README, "Exit codes") and its class, which
decides whether it is tried again (`retry_rules`). Nothing here performs I/O.
"""

from enum import StrEnum
from typing import ClassVar


class ErrorClass(StrEnum):
    """What kind of failure it is, which is what decides whether another try can help (`retry_rules`)."""

    NETWORK = "network"
    """Something outside did not answer, or not in time."""
    STORAGE = "storage"
    """The store, the database or a disk answered, and failed."""
    PROCESSING = "processing"
    """Work on a photo or a batch failed without a reason that lasts."""
    QUOTA = "quota"
    """A limit of the cost guard."""
    UNSUPPORTED = "unsupported"
    """A photo that cannot be migrated as it is."""
    CORRUPTION = "corruption"
    """Bytes or state that contradict what was recorded."""
    CONFIGURATION = "configuration"
    """Settings, credentials or rights that a person has to mend."""
    GUARD = "guard"
    """A safety guard or a person stopped it."""


class PhotoPipelineError(Exception):
    """Base of every error that photo_pipeline raises on purpose.

    Attributes:
        thing: What the error is about, named as the user knows it ("store.bucket", "uploads/a.jpg").
        cause: What went wrong, one clause.
        fix: What the user can do, one clause; empty when there is nothing to do.
        exit_code: The CLI's exit code for it.
        error_class: What kind of failure it is.
    """

    exit_code: ClassVar[int] = 1
    error_class: ClassVar[ErrorClass] = ErrorClass.PROCESSING

    def __init__(self, thing: str, *, cause: str, fix: str = "") -> None:
        self.thing = thing
        self.cause = cause
        self.fix = fix
        super().__init__(f"{thing}: {cause}." + (f" {fix[0].upper()}{fix[1:]}." if fix else ""))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not unpickle by default; workers send these home.
        return (_rebuild, (type(self), self.thing, self.cause, self.fix))


def _rebuild(kind: type[PhotoPipelineError], thing: str, cause: str, fix: str) -> PhotoPipelineError:
    return kind(thing, cause=cause, fix=fix)


class ConfigurationError(PhotoPipelineError):
    """The configuration is missing, malformed, or does not fit the database or the store."""

    exit_code = 2
    error_class = ErrorClass.CONFIGURATION


class GuardRefusedError(PhotoPipelineError):
    """A safety guard refused to act; nothing was changed."""

    exit_code = 3
    error_class = ErrorClass.GUARD


class PausedError(PhotoPipelineError):
    """A person paused or aborted the migration; what was done is kept, and `resume` goes on from there."""

    exit_code = 3
    error_class = ErrorClass.GUARD


class BudgetError(PausedError):
    """The cost guard suspends uploads; what was done is kept, and they go on when the budget allows it."""

    error_class = ErrorClass.QUOTA


class ForecastRefusedError(BudgetError):
    """What a batch will need does not fit into a limit, although uploads as such are not suspended."""


class InfrastructureError(PhotoPipelineError):
    """Something outside is down or refuses us; the work can be resumed when it is back."""

    exit_code = 4
    error_class = ErrorClass.STORAGE


class StoreError(InfrastructureError):
    """The object store (S3 or compatible) is unreachable, refuses the credentials, or failed a request."""


class StoreUnreachableError(StoreError):
    """The object store did not answer, or not in time."""

    error_class = ErrorClass.NETWORK


class StoreRefusedError(StoreError):
    """The object store refuses what every request needs (say, the credentials): no other can succeed."""

    error_class = ErrorClass.CONFIGURATION


class DeliveryError(InfrastructureError):
    """The CDN does not deliver what the store holds, so no URL may be rewritten to it."""

    error_class = ErrorClass.NETWORK


class DatabaseError(InfrastructureError):
    """The application's database is unreachable or failed a statement."""


class DatabaseBusyError(DatabaseError):
    """The transaction met another one (a deadlock, say) and was undone; the same work may succeed now."""


class LeaseLostError(InfrastructureError):
    """Another run holds, or has taken over, the lease on a batch; this run's writes are refused."""

    error_class = ErrorClass.GUARD


class PhotoError(PhotoPipelineError):
    """One photo cannot be processed. It is quarantined with this reason; the batch goes on."""

    error_type: ClassVar[str] = "processing_failure"


class UnsupportedFormatError(PhotoError):
    """The content is not an image format that is decoded here, whatever its extension says."""

    error_type = "unsupported_format"
    error_class = ErrorClass.UNSUPPORTED


class CorruptPhotoError(PhotoError):
    """The file claims to be an image but cannot be decoded whole."""

    error_type = "corrupt"
    error_class = ErrorClass.CORRUPTION


class PhotoTooLargeError(PhotoError):
    """The photo has more pixels or bytes than the limits allow (decompression bombs included)."""

    error_type = "too_large"
    error_class = ErrorClass.UNSUPPORTED


class PhotoTimeoutError(PhotoError):
    """Decoding or encoding took longer than the per-photo time limit; its worker was killed."""

    error_type = "timeout"


class PhotoMemoryError(PhotoError):
    """Decoding or encoding needed more memory than the per-photo limit."""

    error_type = "out_of_memory"


class WorkerCrashError(PhotoError):
    """The worker process died while it worked on this photo."""

    error_type = "worker_crash"


class StorageConflictError(PhotoError):
    """The store holds something else under the photo's content-addressed key; it is left alone."""

    error_type = "storage_conflict"
    error_class = ErrorClass.CORRUPTION


class NotStoredError(PhotoError):
    """One object could not be brought into the store, which took others; its photo may be retried."""

    error_type = "not_stored"
    error_class = ErrorClass.STORAGE


class ObjectKeyError(PhotoError):
    """A name cannot be an object's key on every S3 server; nothing was asked of the store."""

    error_type = "unusable_key"
    error_class = ErrorClass.UNSUPPORTED


class PhotoChangedError(PhotoError):
    """The local file is no longer the one that was catalogued (or is gone); re-run the inventory."""

    error_type = "changed_on_disk"
    error_class = ErrorClass.CORRUPTION


class RowNotReadyError(PhotoError):
    """Another photo of the row is not in the store, and columns speak of the row as a whole."""

    error_type = "row_not_ready"
    error_class = ErrorClass.UNSUPPORTED
