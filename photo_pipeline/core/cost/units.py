"""What is counted, and amounts of it. What it costs is `pricing`; where it is written down is `ledger`."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum


class Unit(StrEnum):
    """One kind of thing that AWS charges for, or that people ask about."""

    PUTS = "puts"
    """PUT, COPY, POST and LIST requests to S3: the dear ones."""
    GETS = "gets"
    """GET, HEAD and all other requests to S3."""
    DELETES = "deletes"
    """DELETE and CANCEL requests to S3, which are free."""
    BYTES_IN = "bytes_in"
    """Bytes sent to S3, which are free to send."""
    BYTES_OUT = "bytes_out"
    """Bytes read from S3."""
    CDN_REQUESTS = "cdn_requests"
    """Requests that we send to the CDN ourselves (canary, validation, report); visitors' are not seen."""
    CDN_BYTES_OUT = "cdn_bytes_out"
    """Bytes of the CDN's answers to them."""
    INVALIDATION_PATHS = "invalidation_paths"
    """Paths that CloudFront was asked to forget."""
    STORED_BYTES = "stored_bytes"
    """Bytes that stay in the bucket. Reserved like the others; what is used is read from `pp_object`."""


Amounts = Mapping[Unit, int]
"""So much of each; a unit that is left out is none of it."""


def month_of(instant: datetime) -> str:
    """Return the month that a request at that instant (UTC) is billed in, such as `2026-11`."""
    return f"{instant:%Y-%m}"
