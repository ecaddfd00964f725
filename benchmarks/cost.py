"""What counting and limiting costs an upload: the same objects with and without it, in rounds.

Over HTTP to the embedded S3 server, 16 threads, a PUT and a HEAD per object as a migration does it, into one
SQLite database; between two photos the breaker is asked. Each round sends three batches of new objects, in
an order that rotates: uncounted, counted, and counted with a stopwatch. Two kinds of figures come of it:

- `cpu_ratio`, `wall_ratio`: counted by uncounted, round by round. What else runs on the machine is in them.
- `cpu_share`: the CPU time that threads spend in counting and asking, by that of the rest of the upload. A
  busy machine changes it little; it is the one for the target of 0.02. `wait_share` is the time on the clock
  that they spent there, by all the time of the 16 threads, with their waits for the disk and each other.
"""

import argparse
import json
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

    def __init__(self, database: Database, watch: Stopwatch) -> None:
        super().__init__(database)
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
    def cpu_share(self) -> float:
        """Of the rest's CPU."""
        return self.watch.cpu_s / (self.lot.cpu_s - self.watch.cpu_s)

    @property
    def wait_share(self) -> float:
        """Of the threads' time."""
        return self.watch.wall_s / (self.lot.wall_s * _THREADS)


class Bench:
    """One server, and one database that limits what is sent to it."""

    def __init__(self, settings: StoreSettings, database: Database, objects: int) -> None:
        self._settings, self._database, self._objects = settings, database, objects

    def uncounted(self) -> Lot:
        """Send a lot without counting."""
        return self._send(UNCOUNTED, None, None)

    def counted(self) -> Lot:
        """Send a lot that is counted and limited."""
        with self._spending(meter := Meter(self._database)) as spending:
            return self._send(meter, spending, None)

    def watched(self) -> Watched:
        """Send one that is counted, limited and timed."""
        watch = Stopwatch()
        with self._spending(meter := WatchedMeter(self._database, watch)) as spending:
            lot = self._send(meter, spending, watch)
        return Watched(lot, watch, meter.claims)

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
                yield Bench(settings, database, objects)
        finally:
            servers.stop()


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and where the middle half lies."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "quarter": round(low, 4), "three_quarters": round(high, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=700, help="of a batch of 100 photos")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    plain: list[Lot] = []
    counted: list[Lot] = []
    watched: list[Watched] = []
    load = os.getloadavg()[0]
    with scene(options.objects) as bench:
        bench.counted()  # imports, connections
        for number in range(options.rounds):
            steps: list[Callable[[], None]] = [
                lambda: plain.append(bench.uncounted()),
                lambda: counted.append(bench.counted()),
                lambda: watched.append(bench.watched()),
            ]
            for step in steps[number % 3 :] + steps[: number % 3]:
                step()
    pairs = list(zip(counted, plain, strict=True))
    cpu_share = _spread([each.cpu_share for each in watched])
    document = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": __doc__,
        "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "objects_of_a_batch": options.objects,
        "rounds": options.rounds,
        "target": TARGET,
        "cpu_share": cpu_share,
        "is_within_target": cpu_share["median"] <= TARGET,
        "wait_share": _spread([each.wait_share for each in watched]),
        "cpu_ratio": _spread([each.cpu_s / other.cpu_s for each, other in pairs]),
        "wall_ratio": _spread([each.wall_s / other.wall_s for each, other in pairs]),
        "uncounted_cpu_us_per_object": round(
            statistics.median(each.cpu_s for each in plain) / options.objects * 1e6
        ),
        "counting_cpu_us_per_object": round(
            statistics.median(each.watch.cpu_s for each in watched) / options.objects * 1e6
        ),
        "objects_per_s_uncounted": round(options.objects / statistics.median(each.wall_s for each in plain)),
        "transactions_of_a_batch": statistics.median(each.claims for each in watched),
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
