"""How often, and how long, one request to the store is tried before its item counts as failed.

Each request has a budget of its own. The client libraries' own retries are off: boto3's share one quota per
client, so that some requests' failures become others' (FACTS, "S3, CloudFront and their doubles"). Which
errors are worth another try is decided in `faults`.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # 10 ms, for what hardly ever happens
    from tenacity import RetryCallState

# A black-holed item must fail over in under 30 s (FACTS). A small body is given up quickly twice, since one
# lost connection is the usual reason, and then gets the time that sixteen of them need to share 1 Mbit/s.
# The more a request carries the more time it has: 32 KB/s, so that large originals can share a slow uplink.
_TIMEOUTS_S = {
    128 * 1024: (5, 5, 14),
    512 * 1024: (8, 17),
    4 * 1024**2: (128,),
    32 * 1024**2: (1024,),
}
_LONGEST_S = (4 * 3600,)
CONTROL_TIMEOUTS_S = (6, 6, 6)
# The budget of what answers but fails: ten tries, exponential from 0.1 s with jitter, within 28 s. At a
# failure rate of 20 % one item in ten million uses it up (0.2 to the power of 10).
_TRIES = 10
_BUDGET_S = 28
_FIRST_WAIT_S, _LONGEST_WAIT_S, _JITTER_S = 0.1, 3, 0.2
_T = TypeVar("_T")


def data_timeouts_s(size: int) -> Sequence[int]:
    """Return how many seconds each try that ends without an answer may take, for a body of `size` bytes."""
    return next((times for limit, times in _TIMEOUTS_S.items() if size <= limit), _LONGEST_S)


class Patience:
    """The tries of one request: `timeout_s` says how long the next one may take."""

    def __init__(self, timeouts_s: Sequence[int], *, timed_out: Callable[[BaseException], bool]) -> None:
        self._left = list(timeouts_s)
        # What may take minutes to be sent may also be refused at once: that has a budget of its own.
        longest_s = sum(timeouts_s)
        self._end_s = _BUDGET_S if longest_s <= _BUDGET_S else longest_s + _BUDGET_S
        self._timed_out = timed_out
        self._began_s = time.monotonic()

    @property
    def timeout_s(self) -> int:
        """How many seconds the next try may take."""
        return self._left[0]

    def run(self, request: Callable[[], _T], worth_a_retry: Callable[[BaseException], bool]) -> _T:
        """Return what the request returns, tried again as often as may be; the last error is raised as it is.

        Called once: the time that all tries may take began when this was made.
        """
        # Almost every request needs one try, and making ready for more takes 0.15 ms, half of all its time.
        try:
            return request()
        except Exception as error:
            if not worth_a_retry(error):
                raise
            failed = [error]

        from tenacity import Retrying, retry_if_exception, wait_exponential, wait_random

        def once_more() -> _T:
            if failed:
                raise failed.pop()
            return request()

        return Retrying(
            stop=self._is_over,
            wait=wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S) + wait_random(0, _JITTER_S),
            retry=retry_if_exception(worth_a_retry),
            reraise=True,
        )(once_more)

    def _is_over(self, state: "RetryCallState") -> bool:
        error = state.outcome.exception() if state.outcome else None
        if error is not None and self._timed_out(error):
            self._left.pop(0)
            if not self._left:
                return True
        passed = time.monotonic() - self._began_s + state.upcoming_sleep
        return state.attempt_number >= _TRIES or passed + self.timeout_s > self._end_s
