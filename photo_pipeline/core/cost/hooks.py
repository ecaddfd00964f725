"""Shows each HTTP attempt of boto3 and urllib3 to a meter, before it is sent: retries and failures included.

obstore has no such events; `core.storage.store` counts its requests, each of which is one attempt there.
"""

from typing import Any

import urllib3

from photo_pipeline.core.cost.meter import RequestMeter
from photo_pipeline.core.cost.units import Unit


def count_boto3(client: Any, meter: RequestMeter) -> None:
    """Let `meter` count every attempt of that S3 client from now on.

    The other services' requests that we send are free of charge, but for CloudFront's invalidations, which
    `core.delivery.invalidation` counts: by paths, and a repeated request only once.
    """

    def before_send(request: Any, event_name: str, **_: Any) -> None:
        meter.count(s3_unit(event_name.rpartition(".")[2], request.method))
        # The second one where a body goes out in chunks, followed by its checksum.
        size = request.headers.get("Content-Length") or request.headers.get("X-Amz-Decoded-Content-Length")
        meter.count(Unit.BYTES_IN, int(size or 0))

    # `before-send` comes with each attempt, after retries were decided upon.
    client.meta.events.register("before-send.s3", before_send)


def s3_unit(operation: str, method: str) -> Unit:
    """Return what a request to S3 is charged as; DeleteObjects, a POST, is taken for a dear one."""
    if method == "DELETE":
        return Unit.DELETES
    if operation.startswith("List"):
        return Unit.PUTS
    return Unit.GETS if method in ("GET", "HEAD") else Unit.PUTS


def counted_pool(
    meter: RequestMeter, *, unit: Unit = Unit.CDN_REQUESTS, **options: Any
) -> urllib3.PoolManager:
    """Return a urllib3 pool manager whose every attempt is counted, as a request to the CDN by default."""

    class _Http(urllib3.HTTPConnectionPool):
        def urlopen(self, *arguments: Any, **settings: Any) -> Any:  # called again for each retry
            meter.count(unit)
            return super().urlopen(*arguments, **settings)

    class _Https(urllib3.HTTPSConnectionPool):
        def urlopen(self, *arguments: Any, **settings: Any) -> Any:
            meter.count(unit)
            return super().urlopen(*arguments, **settings)

    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": _Http, "https": _Https}
    return manager
