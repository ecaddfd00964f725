"""Shows each HTTP attempt of boto3 and urllib3 to a meter, before it is sent: retries and failures included.

obstore has no such events; `core.storage.store` counts its requests, each of which is one attempt there.
"""

import re
from typing import Any

import urllib3

from photo_pipeline.core.cost.meter import RequestMeter
from photo_pipeline.core.cost.units import Unit

_QUANTITY = re.compile(rb"<Quantity>(\d+)</Quantity>")


def count_boto3(client: Any, meter: RequestMeter) -> None:
    """Let `meter` count every attempt of that boto3 client (S3 or CloudFront) from now on."""
    service = client.meta.service_model.service_name

    def before_send(request: Any, event_name: str, **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        if service == "s3":
            meter.count(s3_unit(operation, request.method))
            meter.count(Unit.BYTES_IN, int(request.headers.get("Content-Length") or 0))
        elif operation == "CreateInvalidation":
            quantity = _QUANTITY.search(request.body or b"")
            # Counted again with each attempt: a lost answer may have been a success.
            meter.count(Unit.INVALIDATION_PATHS, int(quantity[1]) if quantity else 1)

    # `before-send` comes with each attempt, after retries were decided upon.
    client.meta.events.register(f"before-send.{service}", before_send)


def s3_unit(operation: str, method: str) -> Unit:
    """Return what a request to S3 is charged as; DeleteObjects, a POST, is taken for a dear one."""
    if method == "DELETE":
        return Unit.DELETES
    if operation.startswith("List"):
        return Unit.PUTS
    return Unit.GETS if method in ("GET", "HEAD") else Unit.PUTS


def counted_pool(meter: RequestMeter, **options: Any) -> urllib3.PoolManager:
    """Return a urllib3 pool manager whose every attempt is counted as a request to the CDN."""

    class _Http(urllib3.HTTPConnectionPool):
        def urlopen(self, *arguments: Any, **settings: Any) -> Any:  # called again for each retry
            meter.count(Unit.CDN_REQUESTS)
            return super().urlopen(*arguments, **settings)

    class _Https(urllib3.HTTPSConnectionPool):
        def urlopen(self, *arguments: Any, **settings: Any) -> Any:
            meter.count(Unit.CDN_REQUESTS)
            return super().urlopen(*arguments, **settings)

    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": _Http, "https": _Https}
    return manager
