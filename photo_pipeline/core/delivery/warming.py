"""Cache warming: files are fetched through the CDN before visitors ask for them.

Only what is proven in the store may be passed in, since a CDN keeps the error that it answers for a missing
object (DESIGN rule 2); `core.migration.warm` sees to that. A request warms the edge near this machine,
and CloudFront's regional cache behind it, which then serves the edges of its whole region.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from photo_pipeline.core.delivery.canary import Expected, delivery_problems
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.progress import Progress, no_progress

# Enough to keep a connection busy while another waits for S3; a CDN sees more from one page of a browser.
DEFAULT_CONCURRENCY = 8
_KEPT_PROBLEMS = 100


@dataclass
class Warmed:
    """What was fetched.

    Attributes:
        urls: How many were asked for.
        bytes: How many bytes came.
        hits: How many the CDN had in its cache already.
        failed: How many were not delivered as they were stored.
        problems: What was wrong with the first of those, as sentences.
    """

    urls: int = 0
    bytes: int = 0
    hits: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Fetched:
    bytes: int
    is_hit: bool
    problems: list[str]


def warm_urls(
    cdn: Cdn,
    expected: Iterable[Expected],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    progress: Progress = no_progress,
    into: Warmed | None = None,
) -> Warmed:
    """Fetch every URL once and compare what came; memory stays the same however many there are.

    Args:
        cdn: The delivery side.
        expected: What must come, of objects that are proven in the store. Read as it is needed.
        concurrency: Requests at a time.
        progress: Told after each URL.
        into: Where to add up; None: a new sum.

    Raises:
        DeliveryError: the CDN cannot be reached.
    """
    warmed = Warmed() if into is None else into
    waiting: deque[Future[_Fetched]] = deque()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="warm") as pool:
        try:
            for each in expected:
                if len(waiting) >= 2 * concurrency:
                    _add(warmed, waiting.popleft().result(), progress)
                waiting.append(pool.submit(_fetch, cdn, each))
            while waiting:
                _add(warmed, waiting.popleft().result(), progress)
        finally:
            for future in waiting:
                future.cancel()
    return warmed


def _fetch(cdn: Cdn, expected: Expected) -> _Fetched:
    answer = cdn.fetch(expected.url, accept=expected.accept)
    return _Fetched(len(answer.body), answer.is_from_cache, delivery_problems(answer, expected))


def _add(warmed: Warmed, fetched: _Fetched, progress: Progress) -> None:
    warmed.urls += 1
    warmed.bytes += fetched.bytes
    warmed.hits += fetched.is_hit
    warmed.failed += bool(fetched.problems)
    warmed.problems += fetched.problems[: _KEPT_PROBLEMS - len(warmed.problems)]
    progress("urls", warmed.urls, None)
