"""Fetches what the CDN delivers, as a visitor's browser would. Reads only; never caches."""

import re
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from photo_pipeline.core.cost.hooks import counted_pool
from photo_pipeline.core.cost.meter import UNCOUNTED, RequestMeter
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.errors import DeliveryError
from photo_pipeline.core.storage.checksum import sha256_hex

# Fail over in < 30 s in all: three attempts of at most 9 s.
_TIMEOUT = urllib3.Timeout(connect=3, read=6)
# After the last attempt the answer is returned as it is, errors and redirects too.
_RETRIES = urllib3.Retry(
    total=2,
    backoff_factor=0.5,
    status_forcelist=(500, 502, 503, 504),
    redirect=0,
    raise_on_status=False,
    raise_on_redirect=False,
    respect_retry_after_header=False,  # It may ask for hours.
)


@dataclass(frozen=True)
class Delivered:
    """One answer of the CDN; `body` is the bytes as sent, `sha256` their hex digest."""

    url: str
    status: int
    body: bytes
    content_type: str
    cache_control: str
    x_cache: str = ""

    @property
    def is_from_cache(self) -> bool:
        """Whether CloudFront says that it had the file already: Hit or RefreshHit from cloudfront."""
        return "hit" in self.x_cache.lower()

    @property
    def sha256(self) -> str:
        """The body's SHA-256 as hex."""
        return sha256_hex(self.body)


class Cdn:
    """The CDN behind one base URL. Thread-safe."""

    def __init__(self, base_url: str, *, meter: RequestMeter = UNCOUNTED) -> None:
        self.base_url = base_url
        self._meter = meter
        self._http = counted_pool(meter, maxsize=32, timeout=_TIMEOUT, retries=_RETRIES)

    def fetch(self, url: str, *, accept: str = "*/*") -> Delivered:
        """Return the CDN's answer to GET `url`, whatever its status.

        Raises:
            DeliveryError: the CDN cannot be reached.
        """
        try:
            answer = self._http.request(
                "GET", url, headers={"Accept": accept, "Accept-Encoding": "identity"}, preload_content=True
            )
        except HTTPError as error:
            raise DeliveryError(
                f"CDN {self.base_url}",
                cause=f"it does not answer ({_why(error)})",
                fix="check cdn.base_url and that the distribution is deployed, then run again",
            ) from error
        self._meter.count(Unit.CDN_BYTES_OUT, len(answer.data))
        return Delivered(
            url=url,
            status=answer.status,
            body=answer.data,
            content_type=answer.headers.get("Content-Type", ""),
            cache_control=answer.headers.get("Cache-Control", ""),
            x_cache=answer.headers.get("X-Cache", ""),
        )

    def close(self) -> None:
        """Close every kept-alive connection."""
        self._http.clear()


def _why(error: HTTPError) -> str:
    """Return what lies below "Max retries exceeded", without the connection's repr before it."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    return re.sub(r"^\w+\([^)]*\): ", "", " ".join(str(reason).split()))[:200]
