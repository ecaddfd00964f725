"""Instants in AWS's answers, beside what botocore itself makes of them."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.aws_session import timestamp

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(INSTANTS)
def test_a_header_s_and_a_listing_s_time_are_what_botocore_reads_in_them(instant: datetime) -> None:
    header = format_datetime(instant, usegmt=True)
    listing = instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for text in (header, listing):
        assert timestamp(text) == parse_timestamp(text)
        assert timestamp(text).utcoffset() == parse_timestamp(text).utcoffset()


@pytest.mark.parametrize("text", ["1795773600", "2026-11-27T10:00:00+01:00", 1795773600.5])
def test_other_spellings_are_left_to_botocore(text: str | float) -> None:
    assert timestamp(text) == parse_timestamp(text)


@pytest.mark.parametrize("text", ["no time GMT", "no timeZ"])
def test_what_is_no_time_is_refused_as_botocore_does(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        timestamp(text)
