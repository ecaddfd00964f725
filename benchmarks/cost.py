"""What counting and limiting costs an upload: the same objects with and without it, in turns.

Over HTTP to the embedded S3 server, 16 threads, a PUT and a HEAD per object as a migration does it, into one
SQLite database. On a busy machine `cpu_ratio` is the figure to look at: this process's seconds of CPU with
counting by those without. `claiming_s` is how long one thread of 16 was writing to the ledger meanwhile.
"""

import argparse
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.config import StoreSettings
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.meter import UNCOUNTED, Meter, RequestMeter
from photo_pipeline.core.cost.pricing import price_list
from photo_pipeline.core.migration.spending import needed_for
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import EmbeddedServers

RESULT = Path("benchmarks/results/cost.json")
_BYTES, _THREADS = 60_000, 16
_LIMITS = Budget("a benchmark", price_list().for_region(None), True, {}, usd_a_month=1_000_000)


class TimedMeter(Meter):
    """A meter that adds up how long its transactions take."""

    claiming_s = 0.0
    claims = 0

    def _claim(self, *arguments: object) -> None:
        started = time.perf_counter()
        super()._claim(*arguments)  # type: ignore[arg-type]
        self.claiming_s += time.perf_counter() - started
        self.claims += 1


def upload(settings: StoreSettings, meter: RequestMeter, objects: int) -> tuple[float, float]:
    """Return the seconds that so many new objects take, of wall time and of this process's CPU."""
    store = PhotoStore.open(settings, meter=meter)
    prefix, body = secrets.token_hex(8), secrets.token_bytes(_BYTES)

    def bring(number: int) -> None:
        key = f"bench/{prefix}/{number}"
        store.put_new(key, body, content_type="image/jpeg")
        store.head(key)

    started, busy = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(bring, range(objects)))
    return time.perf_counter() - started, time.process_time() - busy


@contextmanager
def scene() -> Iterator[tuple[StoreSettings, Database]]:
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
                yield settings, database
        finally:
            servers.stop()


def _median(runs: list[tuple[float, float]], place: int) -> float:
    return statistics.median(run[place] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=700, help="as a batch of 100 photos has")
    parser.add_argument("--repeat", type=int, default=5, help="pairs of runs")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    plain, limited, claiming, claims = [], [], [], []
    with scene() as (settings, database):
        upload(settings, UNCOUNTED, 100)
        for pair in range(options.repeat):
            # In turns first and second: the server grows slower with each object.
            for counts in (pair % 2 == 0, pair % 2 == 1):
                if not counts:
                    plain.append(upload(settings, UNCOUNTED, options.objects))
                    continue
                meter = TimedMeter(database)
                needed = needed_for([_BYTES] * options.objects, multipart_above=2 * _BYTES)
                with CostGuard(database, _LIMITS).spending(meter, needed, batch="bench"):
                    limited.append(upload(settings, meter, options.objects))
                claiming.append(meter.claiming_s)
                claims.append(meter.claims)
    document = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": __doc__,
        "load_average": round(os.getloadavg()[0], 1),
        "objects": options.objects,
        "uncounted_s": round(_median(plain, 0), 3),
        "limited_s": round(_median(limited, 0), 3),
        "ratio": round(_median(limited, 0) / _median(plain, 0), 3),
        "uncounted_cpu_s": round(_median(plain, 1), 3),
        "limited_cpu_s": round(_median(limited, 1), 3),
        "cpu_ratio": round(_median(limited, 1) / _median(plain, 1), 3),
        "transactions": statistics.median(claims),
        "claiming_s": round(statistics.median(claiming), 3),
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
