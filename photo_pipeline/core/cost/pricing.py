"""What S3 requests and storage cost: a dated table of list prices, and what the free tier gives.

Prices only; what a migration will ask for is `core.migration.plan`. Nothing is looked up online.
"""

from dataclasses import dataclass
from datetime import date

GB = 1024**3
"""The gigabyte that S3 storage is billed in."""


@dataclass(frozen=True)
class PriceTable:
    """List prices in US dollars, before tax and discounts.

    Attributes:
        region: The AWS region they are those of; other regions differ by some percent.
        storage_class: The S3 storage class.
        as_of: The day on which they were read.
        source: Where.
        put_per_1000: Per 1,000 PUT, COPY, POST and LIST requests.
        get_per_1000: Per 1,000 GET and HEAD requests.
        storage_gb_month: Per GB and month, for the first 50 TB.
    """

    region: str
    storage_class: str
    as_of: date
    source: str
    put_per_1000: float
    get_per_1000: float
    storage_gb_month: float

    def requests_usd(self, *, puts: float, gets: float) -> float:
        """Return what that many requests cost once, in dollars."""
        return (puts * self.put_per_1000 + gets * self.get_per_1000) / 1000

    def storage_usd_per_month(self, size_bytes: float) -> float:
        """Return what keeping that many bytes costs, in dollars a month."""
        return size_bytes / GB * self.storage_gb_month


@dataclass(frozen=True)
class FreeTier:
    """What a month is free of charge, for the accounts that have it."""

    name: str
    puts: int
    gets: int
    storage_gb: float

    def months_for(self, *, puts: int) -> int:
        """Return over how many calendar months that many PUT requests must be spread to stay free."""
        return -(-puts // self.puts)


S3_STANDARD = PriceTable(
    region="us-east-1",
    storage_class="STANDARD",
    as_of=date(2026, 11, 20),
    source="AWS's S3 pricing page (https://aws.amazon.com/s3/pricing/), as noted in the project's research",
    put_per_1000=0.005,
    get_per_1000=0.0004,
    storage_gb_month=0.023,
)

# Free for the whole account, whatever the distribution; a path with a wildcard is one path.
# Source: https://aws.amazon.com/cloudfront/pricing/ as noted in the project's research, 2026-11-20.
FREE_INVALIDATION_PATHS = 1_000
INVALIDATION_PATH_USD = 0.005

# Only accounts opened before 15 July 2025, in their first 12 months; later ones have credits instead.
# Source: https://aws.amazon.com/s3/pricing/ and https://aws.amazon.com/free/, read 2026-11-20.
LEGACY_FREE_TIER = FreeTier("AWS legacy free tier", puts=2_000, gets=20_000, storage_gb=5)
