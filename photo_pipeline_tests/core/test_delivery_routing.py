"""The Accept header decides between AVIF, WebP and JPEG: with what browsers send, and with anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.delivery.routing import negotiate_format

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
SAFARI_15 = "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
SAFARI_13 = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
NAVIGATION = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "extension"),
    [
        (CHROME, "avif"),
        (FIREFOX, "avif"),
        (SAFARI_15, "webp"),
        (SAFARI_13, "jpg"),
        (NAVIGATION, "avif"),
        ("*/*", "jpg"),
        ("image/*", "jpg"),
        ("", "jpg"),
        (None, "jpg"),
        ("IMAGE/AVIF", "avif"),
        ("image/avif;q=0, image/webp", "webp"),
        ("image/avif; q=0.0 ,image/webp;Q=0.000", "jpg"),
        ("image/avif;level=1;q=0.1", "avif"),
        ("image/avif;q=nan,image/webp;q=", "jpg"),
        ("image/avif-sequence", "jpg"),
        ("image/avif, image/avif;q=0", "jpg"),
    ],
)
def test_each_client_gets_the_best_format_it_names(accept: str | None, extension: str) -> None:
    assert negotiate_format(accept) == extension


HEADER_PIECES = st.sampled_from(
    ["image/avif", "image/webp", "*/*", ";", ",", "q=", "q=0", "0.5", "=", " ", '"', "²"]
)


@given(st.one_of(st.none(), st.text(), st.lists(HEADER_PIECES).map("".join)))
def test_no_header_makes_it_raise(accept: str | None) -> None:
    assert negotiate_format(accept) in {"avif", "webp", "jpg"}


@given(
    before=st.lists(st.sampled_from(["image/webp", "image/png", "*/*;q=0.8", "image/*", "text/html"])),
    after=st.lists(st.sampled_from(["image/webp", "image/avif", "*/*", "image/avif;q=0.9"])),
    zero=st.sampled_from(["q=0", "Q=0", "q=0.0", "q=0.000", " q = 0"]),
)
def test_a_format_refused_with_q_0_is_never_served(before: list[str], after: list[str], zero: str) -> None:
    assert negotiate_format(",".join([*before, f"image/avif;{zero}", *after])) != "avif"
