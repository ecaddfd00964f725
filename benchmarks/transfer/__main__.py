"""Measures, round by round in turn on one server, and writes `benchmarks/results/transfer.json`.

Ours: `upload_batch` as a run calls it, whole: each file is read, hashed and compared with the catalogue,
put with its checksum, proven in the store, and recorded in the state database under the batch's lease. The
MD5 that the proof asks for is in the catalogue since the variant was made, as in a migration.
The rival: `rclone copy --transfers 32`, which reads back nothing, and then `rclone check`, which compares
sizes and MD5 by a listing. Both as whole processes, by the wall clock; for ours also without Python's start
and imports, since a run does not stop after one batch (`…_without_start`).
Between them the limit (`benchmarks.transfer.floor`): a Python process that only reads, hashes and puts.
At the end many batches in one process of ours (`long_run`), as a migration has them.

Ratios are rclone's seconds divided by ours: above 1, ours is faster.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.transfer import scene, servers
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.config import PipelineConfig, UploadSettings

RESULT = Path("benchmarks/results/transfer.json")
_SQLITE_FOLDER = "/dev/shm"
# What an installation has that says nothing of it.
_CONCURRENCY = UploadSettings().concurrency


@dataclass(frozen=True)
class Taken:
    """One process: seconds by the wall clock, and of processor time."""

    wall_s: float
    cpu_s: float
    output: str


def timed(command: list[str], environment: dict[str, str]) -> Taken:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Taken(wall, cpu, done.stdout)


def server_cpu_s(server: servers.Server) -> float:
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="ascii") for pid in server.pids]
    fields = [each.rpartition(")")[2].split() for each in stats]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def ours(
    server: servers.Server, files: scene.Files, home: Path, concurrency: int, batch: int
) -> dict[str, Any]:
    prefix = f"{home.name}/photos"
    database_file = home / "app.db"
    home.mkdir()
    database_file.touch()
    document = scene.configuration(home, prefix, server.url, concurrency, batch)
    config_file = home / "photo_pipeline.yaml"
    config_file.write_text(yaml.safe_dump(document), encoding="utf-8")
    database = Database.open(f"sqlite:///{database_file}")
    scene.prepare(database, PipelineConfig.model_validate(document), files, home)
    batches = scene.batches(database)
    database.close()
    environment = servers.environment(server, APP_DATABASE_URL=f"sqlite:///{database_file}")
    before = server_cpu_s(server)
    command = [sys.executable, "-m", "benchmarks.transfer.ours", str(config_file), *batches]
    taken = timed(command, environment)
    answer = json.loads(taken.output)
    if answer["uploaded"] < files.count:
        raise SystemExit(f"only {answer['uploaded']} of {files.count} were sent")
    server.forget(home.name)
    shutil.rmtree(home)
    return answer | {
        "batches": len(batches),
        "wall_s": taken.wall_s,
        "cpu_s": taken.cpu_s,
        "server_cpu_s": server_cpu_s(server) - before,
    }


def rclone(server: servers.Server, files: scene.Files, name: str, transfers: int) -> dict[str, Any]:
    target = f"bench:{scene.BUCKET}/{name}"
    common = ["--config", "/dev/null", "--transfers", str(transfers), "--checkers", str(transfers)]
    environment = servers.environment(server)
    before = server_cpu_s(server)
    copied = timed([servers.rclone(), "copy", str(files.folder), target, *common], environment)
    after_copy = server_cpu_s(server)
    checked = timed([servers.rclone(), "check", str(files.folder), target, *common], environment)
    server.forget(name)
    return {
        "copy_s": copied.wall_s,
        "copy_cpu_s": copied.cpu_s,
        "copy_server_cpu_s": after_copy - before,
        "check_s": checked.wall_s,
        "check_cpu_s": checked.cpu_s,
        "check_server_cpu_s": server_cpu_s(server) - after_copy,
    }


def floor(server: servers.Server, files: scene.Files, name: str, threads: int) -> dict[str, Any]:
    environment = servers.environment(server)
    before = server_cpu_s(server)
    arguments = [server.url, scene.BUCKET, name, str(files.folder), str(threads)]
    taken = timed([sys.executable, "-m", "benchmarks.transfer.floor", *arguments], environment)
    after = server_cpu_s(server)
    server.forget(name)
    return {"limit_s": taken.wall_s, "limit_cpu_s": taken.cpu_s, "limit_server_cpu_s": after - before}


def long_run(server_name: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    files = scene.Files.make(work / "many-files", options.many)
    mine, theirs = [], []
    with servers.running(server_name, work / f"many-{server_name}") as server:
        for number in range(options.many_rounds):
            label = f"many-{number}"
            mine.append(ours(server, files, work / f"{label}-ours", options.concurrency, options.files))
            theirs.append(rclone(server, files, f"{label}-rclone", options.transfers))
    shutil.rmtree(files.folder)
    return {"batches": mine[0]["batches"], **summary(server_name, files, mine, theirs)}


def rounds(server_name: str, files: scene.Files, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    mine, theirs, limits = [], [], []
    with servers.running(server_name, work / f"server-{server_name}") as server:
        for number in range(-options.warmup, options.rounds):
            label = f"{server_name}-{number + options.warmup}"
            steps = [
                lambda name=label: ours(
                    server, files, work / f"ours-{name}", options.concurrency, options.files
                ),
                lambda name=label: floor(server, files, f"floor-{name}", options.concurrency),
                lambda name=label: rclone(server, files, f"rclone-{name}", options.transfers),
            ]
            # In turn first, so that a machine that grows slower or faster meets both.
            found = [step() for step in (steps if number % 2 == 0 else steps[::-1])]
            own, limit, rival = found if number % 2 == 0 else found[::-1]
            print(json.dumps({"round": number, **own, **rival, **limit}), flush=True)
            if number >= 0:
                mine.append(own)
                theirs.append(rival)
                limits.append(limit)
    return summary(server_name, files, mine, theirs) | limit_summary(limits, theirs)


def limit_summary(limits: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = list(zip(limits, theirs, strict=True))
    ratio = statistics.median(rival["copy_s"] / limit["limit_s"] for limit, rival in pairs)
    found = {name: statistics.median(limit[name] for limit in limits) for name in limits[0]}
    return {"limit_ratio_to_rclone_copy": round(ratio, 3)} | {
        name: round(value, 3) for name, value in found.items()
    }


def summary(
    server_name: str, files: scene.Files, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> dict[str, Any]:
    def median(values: Any) -> float:
        return round(statistics.median(values), 3)

    pairs = list(zip(mine, theirs, strict=True))
    return {
        "server": server_name,
        "files": files.count,
        "megabytes": round(files.total_bytes / 1e6, 1),
        "rounds": len(pairs),
        "verification": mine[0]["verification"],
        "requests": mine[0]["requests"],
        "ratio_to_rclone_copy": median(rival["copy_s"] / own["wall_s"] for own, rival in pairs),
        "ratio_to_rclone_copy_and_check": median(
            (rival["copy_s"] + rival["check_s"]) / own["wall_s"] for own, rival in pairs
        ),
        "ratio_to_rclone_copy_without_start": median(
            rival["copy_s"] / own["seconds"] for own, rival in pairs
        ),
        "ratio_to_rclone_copy_and_check_without_start": median(
            (rival["copy_s"] + rival["check_s"]) / own["seconds"] for own, rival in pairs
        ),
        # Of all processor time, the server's included: what remains comparable on a machine with other work.
        "cpu_ratio_to_rclone_copy": median(
            (rival["copy_cpu_s"] + rival["copy_server_cpu_s"]) / (own["cpu_s"] + own["server_cpu_s"])
            for own, rival in pairs
        ),
        "cpu_ratio_to_rclone_copy_and_check": median(
            sum(rival[name] for name in rival if "cpu_s" in name) / (own["cpu_s"] + own["server_cpu_s"])
            for own, rival in pairs
        ),
        "ratios_to_rclone_copy_without_start": [
            round(rival["copy_s"] / own["seconds"], 3) for own, rival in pairs
        ],
        "ratios_to_rclone_copy": [round(rival["copy_s"] / own["wall_s"], 3) for own, rival in pairs],
        "ours_wall_s": median(own["wall_s"] for own in mine),
        "ours_without_start_s": median(own["seconds"] for own in mine),
        "ours_cpu_s": median(own["cpu_s"] for own in mine),
        "ours_server_cpu_s": median(own["server_cpu_s"] for own in mine),
        **{name: median(rival[name] for rival in theirs) for name in theirs[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--servers", nargs="+", default=["rclone", "ceph"], help="or embedded")
    parser.add_argument("--transfers", type=int, default=32, help="rclone's --transfers and --checkers")
    parser.add_argument("--concurrency", type=int, default=_CONCURRENCY, help="our upload.concurrency")
    parser.add_argument("--many", type=int, default=10_000, help="files of the long run; 0: none")
    parser.add_argument("--many-rounds", type=int, default=3, help="rounds of the long run")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    folder = _SQLITE_FOLDER if Path(_SQLITE_FOLDER).is_dir() else None
    with tempfile.TemporaryDirectory(prefix="pp-transfer-", dir=folder) as home:
        work = Path(home)
        files = scene.Files.make(work / "files", options.files)
        for name in options.servers:
            if servers.why_not(name):
                print(f"skipped: {servers.why_not(name)}", flush=True)
        there = [name for name in options.servers if not servers.why_not(name)]
        results = [rounds(name, files, work, options) for name in there]
        shutil.rmtree(files.folder)
        many = long_run(there[0], work, options) if options.many and there else None
    document = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "rclone": subprocess.run(
                [servers.rclone(), "version"], capture_output=True, text=True, check=True
            ).stdout.split()[1],
        },
        "what": __doc__,
        "transfers": {"ours": options.concurrency, "rclone": options.transfers},
        "results": results,
        "long_run": many,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
