"""Objects of an upload that are under way: threads that send them, and one that proves many together."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from photo_pipeline.core.migration.one_object import Brought, Job, Proofs
from photo_pipeline.core.storage.many import PROVEN_AT_ONCE, WORTH_LISTING


class Flight:
    """Threads that work on single objects, one that proves many together, and a queue of what has ended."""

    def __init__(self, threads: int, failure: Callable[[], Exception | None]) -> None:
        self._failure = failure
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        # Of its own, so that the others go on sending while a busy server makes a listing.
        self._prover = ThreadPoolExecutor(1, thread_name_prefix="prove")
        # Not by `wait`, which looks at each running future for each that ends: a tenth of all our time.
        self._finished: SimpleQueue[tuple[Job, Future[Brought]] | Future[Proofs]] = SimpleQueue()
        self._proving = False
        self.sending = 0
        """How many objects are under way."""
        self.ended = 0
        """How many objects have ended; one that is worked on again counts once."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way any more."""
        return not self.sending and not self._proving

    def __enter__(self) -> "Flight":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._prover.shutdown()

    def start(self, job: Job, work: Callable[[], Brought], *, again: bool = False) -> None:
        """Let a thread do the work, unless a store failure or a person stopped the rest before it begins."""
        future = self._pool.submit(self._try, work)
        self.sending += 1
        self.ended -= again
        future.add_done_callback(lambda done: self._finished.put((job, done)))

    def prove(
        self, waiting: list[Brought], work: Callable[[list[Brought]], Proofs], *, soon_over: bool
    ) -> list[Brought]:
        """Let the other thread prove what waits, if that is enough or nothing else is under way.

        Args:
            waiting: What was sent.
            work: Proves it.
            soon_over: The last ones are under way: fewer are enough, so that little is left when they end.

        Returns:
            What waits now: nothing, or the same as before.
        """
        enough = WORTH_LISTING if soon_over else PROVEN_AT_ONCE
        is_time = len(waiting) >= enough or not self.sending
        if not waiting or self._proving or not is_time:
            return waiting
        self._proving = True
        self._prover.submit(work, waiting).add_done_callback(self._finished.put)
        return []

    def wait(self) -> "tuple[Job, Future[Brought]] | Future[Proofs]":
        """Return the next that has ended."""
        ended = self._finished.get()
        if isinstance(ended, Future):
            self._proving = False
        else:
            self.sending -= 1
            self.ended += 1
        return ended

    def _try(self, work: Callable[[], Brought]) -> Brought:
        failure = self._failure()
        if failure is not None:
            raise failure
        return work()
