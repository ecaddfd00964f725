"""A meter for what people do before there is a database, or to find out why it does not answer."""

from collections.abc import Callable

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost.meter import UNCOUNTED, Meter, RequestMeter
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.errors import ConfigurationError, DatabaseError


class LenientMeter:
    """Counts as long as it can be written down, and lets requests pass uncounted otherwise.

    For `doctor` and `provision`, some ten requests each. All other work uses `Meter`, which refuses then.
    """

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._open_database = open_database
        self._database: Database | None = None
        self._meter: RequestMeter | None = None

    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count so much of the unit, before the request is sent; the first call opens the database."""
        try:
            if self._meter is None:
                self._database = self._open_database()
                self._meter = Meter(self._database)
            self._meter.count(unit, amount)
        except (ConfigurationError, DatabaseError):
            # Not asked again: each try may wait long for a database that is away.
            self._meter = UNCOUNTED

    def close(self) -> None:
        """Give back what was counted ahead, and close the database."""
        if isinstance(self._meter, Meter):
            self._meter.close()
        if self._database is not None:
            self._database.close()
