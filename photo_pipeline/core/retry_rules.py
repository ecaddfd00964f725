"""When a failed piece of work is tried again, by the class of its error: one table for all.

The rules hold for whole pieces of work. One request has a budget of its own below them, which follows from
the transport and not from the error: `storage.retries` (ten tries within 28 s), `delivery.cdn` (three),
`catalog.database` (a transaction that met another, six). What is raised has used that up already.

- A photo in a worker process (`migration.process`): tried again at once, in the same run.
- A batch that failed as a whole (`migration.driver`): launched again after the rule's wait.
- What no driver launches again, in Dagster: repeated validation, provisioning, orphans, reconciliation
  (`assets.running.explained_failures`). On the command line these end with exit code 4, and a person, or
  cron, tries them again. So does an invalidation everywhere: CloudFront may have done the first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from photo_pipeline.core.errors import ErrorClass, PhotoError, PhotoPipelineError

LONGEST_WAIT_S: Final = 3600.0
"""No wait grows beyond this many seconds."""


class Growth(Enum):
    """How the wait grows from try to try."""

    LINEAR = auto()
    EXPONENTIAL = auto()


@dataclass(frozen=True)
class RetryRule:
    """How often, and after how long, work that failed for one class of reasons is tried again.

    Attributes:
        retries: Tries after the first one.
        first_wait_s: Seconds before the first of them.
        growth: How the wait grows with each.
        is_outside: Whether the reason is not the piece of work's own: others fail with it meanwhile, so that
            the driver holds them back too, and tries this one again once another has succeeded.
    """

    retries: int = 0
    first_wait_s: float = 0
    growth: Growth = Growth.LINEAR
    is_outside: bool = False

    def wait_s(self, failures: int) -> float:
        """Return how many seconds after the last of so many failures (at least one) the next try may be."""
        # The exponent is bounded: 2 to the power of a large count is no float any more.
        factor = failures if self.growth is Growth.LINEAR else 2 ** min(failures - 1, 32)
        return min(self.first_wait_s * factor, LONGEST_WAIT_S)

    @property
    def sentence(self) -> str:
        """The rule in words."""
        if not self.retries:
            return "not tried again by itself"
        times = "once more" if self.retries == 1 else f"{self.retries} more times"
        if not self.first_wait_s:
            return f"tried {times}"
        how = "each wait twice as long" if self.growth is Growth.EXPONENTIAL else "each wait as much longer"
        return f"tried {times}, first after {self.first_wait_s:g} s, {how}"


# PRODUCT L4. A quota and a refused login have no retries; their waits say when the driver looks again whether
# there is room, or whether somebody has mended it: 300 s, as the breaker's own reset, then ever less often.
RULES: Final = {
    ErrorClass.NETWORK: RetryRule(3, 1, Growth.EXPONENTIAL, is_outside=True),
    ErrorClass.STORAGE: RetryRule(2, 5, Growth.LINEAR, is_outside=True),
    ErrorClass.PROCESSING: RetryRule(1),
    ErrorClass.QUOTA: RetryRule(0, 300, Growth.EXPONENTIAL, is_outside=True),
    ErrorClass.UNSUPPORTED: RetryRule(),
    ErrorClass.CORRUPTION: RetryRule(),
    ErrorClass.CONFIGURATION: RetryRule(0, 300, Growth.EXPONENTIAL, is_outside=True),
    ErrorClass.GUARD: RetryRule(),
}


def rule_of(error: BaseException) -> RetryRule:
    """Return the rule for an error; one that is none of ours counts as a processing failure."""
    return RULES[class_of(error)]


def class_of(error: BaseException) -> ErrorClass:
    """Return the error's class."""
    return error.error_class if isinstance(error, PhotoPipelineError) else ErrorClass.PROCESSING


def after_tries(error: PhotoError, tries: int) -> PhotoError:
    """Return the error saying how often it came, where that was more than once."""
    if tries < 2:
        return error
    return type(error)(error.thing, cause=f"{error.cause} (tried {tries} times)", fix=error.fix)


def class_of_type(error_type: str | None) -> ErrorClass | None:
    """Return the class of a recorded `pp_photo.error_type`; None if there is none."""
    if not error_type:
        return None
    return _CLASSES.get(error_type, ErrorClass.PROCESSING)


def _kinds(kind: type[PhotoError]) -> Iterator[type[PhotoError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


# Beside the errors: what the inventory and the rewrite record of a photo without raising one.
_CLASSES: Final = {kind.error_type: kind.error_class for kind in _kinds(PhotoError)} | {
    "primary_unavailable": ErrorClass.UNSUPPORTED,
    "conflict": ErrorClass.CORRUPTION,
    "rewrite_failed": ErrorClass.STORAGE,
    "rollback_failed": ErrorClass.STORAGE,
}
