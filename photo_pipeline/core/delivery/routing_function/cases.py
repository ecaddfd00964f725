"""Requests and what becomes of them, which the published function has to show before it goes live.

The headers are those of real programs, from their documentation and from MDN's list of default Accept values.
"""

from dataclasses import dataclass

from photo_pipeline.core.delivery.routing import ACCEPT_BY_FORMAT

_IMAGE = "/photos/ab/photo/recipe/full"


@dataclass(frozen=True)
class RoutingCase:
    """One request: who sends it, its path, its Accept headers (none, one, or sent twice), the new path."""

    name: str
    uri: str
    accept: tuple[str, ...]
    becomes: str


def _case(name: str, extension: str, *accept: str) -> RoutingCase:
    return RoutingCase(name, f"{_IMAGE}.auto", accept, f"{_IMAGE}.{extension}")


_IE = "image/png, image/svg+xml, image/jxr, image/*; q=0.8, */*; q=0.5"

CASES = (
    _case("Chrome 121", "avif", ACCEPT_BY_FORMAT["avif"]),
    _case("Chrome 84, before AVIF", "webp", "image/webp,image/apng,image/*,*/*;q=0.8"),
    _case(
        "Chrome, the picture opened by itself",
        "avif",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7",
    ),
    _case("Edge 121", "avif", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
    _case("Edge 18, before Chromium", "jpg", "image/png, image/svg+xml, image/*; q=0.8, */*; q=0.5"),
    _case("Samsung Internet 23", "avif", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
    _case("Samsung Internet 12", "webp", "image/webp,image/apng,image/*,*/*;q=0.8"),
    _case("Firefox 128", "avif", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
    _case("Firefox 92 to 127", "avif", "image/avif,image/webp,*/*"),
    _case("Firefox 65 to 91", "webp", "image/webp,*/*"),
    _case("Firefox 47 to 64", "jpg", "*/*"),
    _case("Safari 13", "jpg", ACCEPT_BY_FORMAT["jpeg"]),
    _case("Safari 14 and 15", "webp", ACCEPT_BY_FORMAT["webp"]),
    _case(
        "Safari 16.4",
        "avif",
        "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,"
        "image/svg+xml,image/*;q=0.8,*/*;q=0.5",
    ),
    _case(
        "Safari 17",
        "avif",
        "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,"
        "image/svg+xml,image/*;q=0.8,*/*;q=0.5",
    ),
    _case("Internet Explorer 11", "jpg", _IE),
    _case("Googlebot Image", "avif", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
    _case("Googlebot Image, older", "jpg", "image/gif, image/jpeg, image/png, */*"),
    _case("bingbot", "jpg", "*/*"),
    _case("facebookexternalhit", "jpg", "*/*"),
    _case("Outlook on Windows", "jpg", "*/*"),
    _case("WhatsApp preview", "jpg", "image/*,*/*;q=0.8"),
    _case("curl", "jpg", "*/*"),
    _case("wget", "jpg", "*/*;q=0.8"),
    _case("no header", "jpg"),
    _case("an empty header", "jpg", ""),
    _case("AVIF refused", "webp", "image/avif;q=0,image/webp,*/*"),
    _case("AVIF and WebP refused", "jpg", "image/avif; q=0.0 , image/webp;Q=0.000, */*"),
    _case("the header sent twice", "avif", "image/webp,*/*", "image/avif"),
    _case("refused in a second header", "jpg", "image/webp", "image/webp;q=0"),
    _case("capital letters", "avif", "IMAGE/AVIF"),
    _case("another type that begins alike", "jpg", "image/avif-sequence,image/webpx"),
    _case("a malformed quality", "jpg", "image/avif;q=high,image/webp;q=-1"),
    _case("a quality above 1", "jpg", "image/avif;q=1.5"),
    _case("separators only", "jpg", ",,;;=,"),
    RoutingCase("a path with a format", f"{_IMAGE}.jpg", (ACCEPT_BY_FORMAT["avif"],), f"{_IMAGE}.jpg"),
    RoutingCase(".auto inside a path", "/a.auto/b.png", (ACCEPT_BY_FORMAT["avif"],), "/a.auto/b.png"),
    RoutingCase("the root", "/", (), "/"),
)
"""Every case that the tests know; CloudFront is asked a few of them (`LIVE_CASES`)."""

# One for each thing that may go wrong; TestFunction takes one request a case.
LIVE_CASES = tuple(
    case
    for case in CASES
    if case.name
    in (
        "Chrome 121",
        "Safari 14 and 15",
        "Safari 13",
        "curl",
        "AVIF refused",
        "no header",
        "the header sent twice",
        "a path with a format",
    )
)
