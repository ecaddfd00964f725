"""What requests, storage and delivery cost, and what plans leave free: the dated table `prices.yaml`.

Prices only; what a migration will ask for is `core.migration.plan`, and what has been asked for `ledger`.
Nothing is looked up online.
"""

from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files

import yaml

from photo_pipeline.core.config.base import Settings
from photo_pipeline.core.config.limits import OwnPrices
from photo_pipeline.core.cost.units import Amounts, Unit

GB = 1024**3
"""The gigabyte that S3 storage is billed in."""


class PriceTable(Settings):
    """List prices of S3 in US dollars, before tax and discounts.

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


class FlatPlan(Settings):
    """One of CloudFront's flat plans, per distribution and month; none has overage charges."""

    name: str
    monthly_usd: float
    requests: int
    bytes_out: int
    storage_credit_gb: int


class CloudFrontPrices(Settings):
    """What CloudFront leaves free each month, and what it asks; amounts are per account."""

    as_of: date
    source: str
    free_requests: int
    free_bytes_out: int
    free_function_calls: int
    free_invalidation_paths: int
    invalidation_path: float
    flat_plans_as_of: date
    flat_plans_source: str
    flat_plans: tuple[FlatPlan, ...]

    def invalidation_usd(self, paths: float) -> float:
        """Return what that many invalidation paths in one month cost, in dollars."""
        return max(0.0, paths - self.free_invalidation_paths) * self.invalidation_path


class AwsPlan(Settings):
    """What an account may use without paying. An amount that is None is not limited."""

    title: str
    who: str
    as_of: date
    source: str
    puts_per_month: int | None = None
    gets_per_month: int | None = None
    storage_gb: float | None = None
    cdn_requests_per_month: int | None = None
    cdn_bytes_per_month: int | None = None
    invalidation_paths_per_month: int | None = None
    usd_in_all: float | None = None


class Prices(Settings):
    """The whole table."""

    s3: tuple[PriceTable, ...]
    cloudfront: CloudFrontPrices
    plans: Mapping[str, AwsPlan]

    def for_region(self, region: str | None, own: OwnPrices | None = None) -> PriceTable:
        """Return the region's S3 prices: the project's own, the table's, or else those of its first region.

        Compare the answer's `region` with the one that was asked for, and say so where they differ.
        """
        listed = next((each for each in self.s3 if each.region == region), self.s3[0])
        if own is None:
            return listed
        changes = own.model_dump(exclude={"as_of", "source"}, exclude_none=True)
        about = {"region": region or listed.region, "as_of": own.as_of, "source": own.source}
        return listed.model_copy(update=changes | about)


@cache
def price_list() -> Prices:
    """Return the table that comes with this version of photo_pipeline."""
    text = files("photo_pipeline.core.cost").joinpath("prices.yaml").read_text(encoding="utf-8")
    return Prices.model_validate(yaml.safe_load(text))


def usd(amounts: Amounts, prices: PriceTable) -> float:
    """Return what those amounts of one month cost at list price, in dollars, storage for the whole month.

    Reading from S3 through our own requests is reckoned as free of transfer charges: 100 GB a month to the
    internet are (CloudFront's own reads always are). What visitors fetch is not among the amounts.
    """
    requests = prices.requests_usd(puts=amounts.get(Unit.PUTS, 0), gets=amounts.get(Unit.GETS, 0))
    storage = prices.storage_usd_per_month(amounts.get(Unit.STORED_BYTES, 0))
    paths = price_list().cloudfront.invalidation_usd(amounts.get(Unit.INVALIDATION_PATHS, 0))
    return requests + storage + paths
