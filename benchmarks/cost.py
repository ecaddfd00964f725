"""What counting and limiting costs an upload: the same objects with and without it, in rounds.

Over HTTP to the embedded S3 server, 16 threads, a PUT and a HEAD per object as a migration does it, into one
SQLite database, with a file for what is counted ahead; between two photos the breaker is asked. Each round
sends four batches of new objects, in an order that rotates: uncounted, counted, counted with a stopwatch, and
uncounted with the same stopwatch around nothing.

The one figure is `cpu_share`: the CPU time that threads spend in counting and asking, less what the stopwatch
takes of that itself, by that of an uncounted batch; with twice its standard error over the rounds. What else
runs on the machine changes it little. The others are a check of it: `cpu_ratio` and `wall_ratio` are counted
by uncounted, and `wait_share` is the threads' time on the clock in counting, by all of it.
"""

import argparse
import json
import math
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.guard import CostGuard, Spending
from photo_pipeline.core.cost.meter import UNCOUNTED, Meter, RequestMeter
from photo_pipeline.core.cost.pricing import price_list
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.migration.spending import needed_for
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import EmbeddedServers

RESULT = Path("benchmarks/results/cost.json")
TARGET = 0.02
_BYTES, _THREADS, _OBJECTS_OF_A_PHOTO = 60_000, 16, 7
_LIMITS = Budget("a benchmark", price_list().for_region(None), True, {}, usd_a_month=1_000_000)


class Stopwatch:
    """Adds up what all threads spend in some work: CPU, and time on the clock."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0
        self._lock = threading.Lock()

    def add(self, busy: float, started: float) -> None:
        """Add what this thread has taken since then, by `thread_time` and `perf_counter`."""
        cpu_s, wall_s = time.thread_time() - busy, time.perf_counter() - started
        with self._lock:
            self.cpu_s += cpu_s
            self.wall_s += wall_s


class WatchedMeter(Meter):
    """A meter whose work is timed."""

    def __init__(self, database: Database, watch: Stopwatch, tills: Path) -> None:
        super().__init__(database, tills=tills)
        self._watch = watch
        self.claims = 0

    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count, with the stopwatch running."""
        busy, started = time.thread_time(), time.perf_counter()
        super().count(unit, amount)
        self._watch.add(busy, started)

    def _claim(self, *arguments: object) -> None:
        self.claims += 1
        super()._claim(*arguments)  # type: ignore[arg-type]


class WatchedNothing:
    """A stopwatch around nothing: what it takes itself."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def count(self, unit: Unit, amount: int = 1) -> None:
        """Count nothing, with the stopwatch running."""
        busy, started = time.thread_time(), time.perf_counter()
        UNCOUNTED.count(unit, amount)
        self._watch.add(busy, started)


@dataclass(frozen=True)
class Lot:
    """What some objects took, in seconds: on the clock, and of this process's CPU."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Watched:
    """What counting took of a lot, and how many transactions."""

    lot: Lot
    watch: Stopwatch
    claims: int

    @property
    def wait_share(self) -> float:
        """Of the threads' time."""
        return self.watch.wall_s / (self.lot.wall_s * _THREADS)


class Bench:
    """One server, and one database that limits what is sent to it."""

    def __init__(self, settings: StoreSettings, database: Database, tills: Path, objects: int) -> None:
        self._settings, self._database, self._objects = settings, database, objects
        self._tills = tills

    def uncounted(self) -> Lot:
        """Send a lot without counting."""
        return self._send(UNCOUNTED, None, None)

    def counted(self) -> Lot:
        """Send a lot that is counted and limited."""
        with self._spending(meter := Meter(self._database, tills=self._tills)) as spending:
            return self._send(meter, spending, None)

    def watched(self) -> Watched:
        """Send one that is counted, limited and timed."""
        watch = Stopwatch()
        with self._spending(meter := WatchedMeter(self._database, watch, self._tills)) as spending:
            lot = self._send(meter, spending, watch)
        return Watched(lot, watch, meter.claims)

    def watched_nothing(self) -> Watched:
        """Send one uncounted, with the stopwatch around nothing."""
        watch = Stopwatch()
        return Watched(self._send(WatchedNothing(watch), None, watch), watch, 0)

    @contextmanager
    def _spending(self, meter: Meter) -> Iterator[Spending]:
        needed = needed_for([_BYTES] * self._objects, multipart_above=2 * _BYTES)
        with CostGuard(self._database, _LIMITS).spending(meter, needed, batch="bench") as spending:
            yield spending

    def _send(self, meter: RequestMeter, spending: Spending | None, watch: Stopwatch | None) -> Lot:
        store = PhotoStore.open(self._settings, meter=meter)
        asking = threading.Lock()
        prefix, body = secrets.token_hex(8), secrets.token_bytes(_BYTES)

        def bring(number: int) -> None:
            # One thread at a time asks, as in a migration.
            if spending and number % _OBJECTS_OF_A_PHOTO == 0 and asking.acquire(blocking=False):
                busy, started = time.thread_time(), time.perf_counter()
                spending.stopped()
                if watch:
                    watch.add(busy, started)
                asking.release()
            key = f"bench/{prefix}/{number}"
            store.put_new(key, body, content_type="image/jpeg")
            store.head(key)

        started, busy = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(bring, range(self._objects)))
        return Lot(time.perf_counter() - started, time.process_time() - busy)


@contextmanager
def scene(objects: int) -> Iterator[Bench]:
    """A server and an empty database with the state tables."""
    key, secret = "BENCHMARKBENCHMARK00", secrets.token_hex(16)
    os.environ |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        servers = EmbeddedServers.start(home / "s3", bucket="bench", access_key=key, secret_key=secret)
        (home / "app.db").touch()
        settings = StoreSettings(
            bucket="bench", region="us-east-1", endpoint_url=servers.s3_url, encryption=None
        )
        try:
            with closing(Database.open(f"sqlite:///{home / 'app.db'}")) as database:
                ensure_schema(database)
                yield Bench(settings, database, home / "counted_ahead", objects)
        finally:
            servers.stop()


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Return the mean, and twice its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": round(statistics.fmean(values), 4), "plus_minus": round(2 * error, 4)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and where the middle half lies."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "quarter": round(low, 4), "three_quarters": round(high, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=700, help="of a batch of 100 photos")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    plain: list[Lot] = []
    counted: list[Lot] = []
    watched: list[Watched] = []
    nothing: list[Watched] = []
    load = os.getloadavg()[0]
    with scene(options.objects) as bench:
        bench.counted()  # imports, connections
        for number in range(options.rounds):
            steps: list[Callable[[], None]] = [
                lambda: plain.append(bench.uncounted()),
                lambda: counted.append(bench.counted()),
                lambda: watched.append(bench.watched()),
                lambda: nothing.append(bench.watched_nothing()),
            ]
            for step in steps[number % 4 :] + steps[: number % 4]:
                step()
    pairs = list(zip(counted, plain, strict=True))
    shares = [
        (each.watch.cpu_s - empty.watch.cpu_s) / lot.cpu_s
        for each, empty, lot in zip(watched, nothing, plain, strict=True)
    ]
    cpu_share = _mean(shares)
    document = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": __doc__,
        "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "objects_of_a_batch": options.objects,
        "rounds": options.rounds,
        "target": TARGET,
        "cpu_share": cpu_share,
        "is_within_target": cpu_share["mean"] + cpu_share["plus_minus"] <= TARGET,
        "wait_share": _spread([each.wait_share for each in watched]),
        "cpu_ratio": _mean([each.cpu_s / other.cpu_s for each, other in pairs]),
        "cpu_ratio_spread": _spread([each.cpu_s / other.cpu_s for each, other in pairs]),
        "wall_ratio": _spread([each.wall_s / other.wall_s for each, other in pairs]),
        "uncounted_cpu_us_per_object": round(
            statistics.median(each.cpu_s for each in plain) / options.objects * 1e6
        ),
        "counting_cpu_us_per_object": round(
            statistics.median(each.watch.cpu_s for each in watched) / options.objects * 1e6
        ),
        "stopwatch_cpu_us_per_object": round(
            statistics.median(each.watch.cpu_s for each in nothing) / options.objects * 1e6
        ),
        "objects_per_s_uncounted": round(options.objects / statistics.median(each.wall_s for each in plain)),
        "transactions_of_a_batch": statistics.median(each.claims for each in watched),
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))
    print(
        f"Counting takes {cpu_share['mean']:.1%} ± {cpu_share['plus_minus']:.1%} of an upload's processor "
        f"time; the target is {TARGET:.0%}."
    )


if __name__ == "__main__":
    main()
