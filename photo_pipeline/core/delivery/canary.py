"""The canary: before rows are rewritten, one URL of each class is fetched through the CDN (PRODUCT D5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from photo_pipeline.core.delivery.cdn import Cdn, Delivered
from photo_pipeline.core.delivery.routing import AUTO_SUFFIX
from photo_pipeline.core.errors import DeliveryError


@dataclass(frozen=True)
class Expected:
    """What the CDN must deliver under a URL.

    Attributes:
        url: What is fetched.
        sha256: Of the body, hex.
        mime: The Content-Type.
        cache_control: The Cache-Control that the object was stored with; None: any.
        accept: The Accept header to send.
        earlier: Cache-Control values that are accepted as well.
    """

    url: str
    sha256: str
    mime: str
    cache_control: str | None
    accept: str = "*/*"
    earlier: tuple[str, ...] = ()


def check_delivery(cdn: Cdn, expected: Expected) -> list[str]:
    """Return what is wrong with the delivery of one URL, as sentences; empty when all is well.

    Raises:
        DeliveryError: the CDN cannot be reached.
    """
    return delivery_problems(cdn.fetch(expected.url, accept=expected.accept), expected)


def delivery_problems(answer: Delivered, expected: Expected) -> list[str]:
    """Return how an answer of the CDN differs from what was expected, as sentences."""
    if answer.status != 200:
        return [f"{expected.url} answers HTTP {answer.status}"]
    problems = []
    if answer.sha256 != expected.sha256:
        problems.append(f"{expected.url} delivers other bytes than the store was given")
    if answer.content_type != expected.mime:
        problems.append(f"{expected.url} has Content-Type {answer.content_type!r}, not {expected.mime!r}")
    accepted = (expected.cache_control, *expected.earlier)
    if expected.cache_control and answer.cache_control not in accepted:
        problems.append(
            f"{expected.url} has Cache-Control {answer.cache_control!r}, not {expected.cache_control!r}"
        )
    return problems


def run_canary(cdn: Cdn, urls: Sequence[Expected]) -> None:
    """Fetch each URL once.

    Raises:
        DeliveryError: the CDN cannot be reached, or delivers anything else than expected; no row may be
            rewritten then.
    """
    for expected in urls:
        problems = check_delivery(cdn, expected)
        if problems:
            raise DeliveryError(
                f"CDN {cdn.base_url}",
                cause=f"the delivery test failed: {problems[0]}",
                fix=f"{_fix(expected, problems[0])}; no row was rewritten",
            )


def _fix(expected: Expected, problem: str) -> str:
    if "Cache-Control" in problem:
        return (
            "let no response headers policy override what the objects say; if cdn.cache_control was changed, "
            "name the former value under cdn.earlier_cache_control"
        )
    if expected.url.endswith(AUTO_SUFFIX):
        return (
            "attach the routing function to the distribution's behaviour (`photo-pipeline routing publish`)"
        )
    return "check the distribution's origin, its access to the bucket and cdn.base_url"
