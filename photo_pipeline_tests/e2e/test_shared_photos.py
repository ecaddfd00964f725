"""Every shared photo, real and hostile, through the whole migration: each ends in exactly one outcome.

One migration serves all tests of this module. All files take 1.5 to 2 minutes of two busy cores, so the quick
tests have one of each kind of them, every hostile file but further ones of a series and a few real ones, and
a preset with fewer pixels: nearly all of that time goes into AVIF of 1200 px.
"""

import copy
import io
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from PIL import Image

from photo_pipeline.core.migration.run import MigratedBatch
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, build_site, item_photo

pytestmark = pytest.mark.timeout(900)

FOLDERS = ("real", "hostile")
DEFAULT_SIDE, DEFAULT_BUDGET = 1200, 102_400
QUICK_SIDE, QUICK_BUDGET = 400, 16_000

# What must not be migrated, and why; everything else in the two folders must be.
QUARANTINED = {
    "badcrc.png": "corrupt",
    "bomb144MP.png": "too_large",
    "bomb256MP.jpg": "too_large",
    "bomb400MP.png": "too_large",
    "trunc50.avif": "corrupt",
    "trunc50.jpg": "corrupt",
    "trunc50.png": "corrupt",
    "trunc50.webp": "corrupt",
    "trunc_hdr.jpg": "corrupt",
    "trunc_last2.jpg": "corrupt",
}
NOT_MATCHED = {
    "svg.jpg": "unsupported_format",
    "text.jpg": "unsupported_format",
    "empty.jpg": "empty",
}


# Real photos of each format and of several cameras, and of each hostile series one file.
FEW_REAL = {
    *(
        "kodak_05.png",
        "immich-app_8bit-sRGB.avif",
        "immich-app_IMG_2682.heic",
        "immich-app_wood_anemones.jpg",
    ),
    *("libjxl_flower.png.im_q85_420_progr.jpg", "recurser_Portrait_5.jpg"),
}
FURTHER_HOSTILE = {*(f"orient{turn}.jpg" for turn in (1, 2, 3, 4, 5, 7, 8)), "flat81MP_prog.jpg"}


@dataclass(frozen=True)
class Chosen:
    """Which files are migrated, and what `full` may have: pixels along its longer side, and bytes."""

    names: list[str]
    side: int
    budget: int


class Migrated:
    """The site after its first migration, and what it looked like before."""

    def __init__(self, site: Site, access_log: Path, chosen: Chosen) -> None:
        self.site, self.chosen = site, chosen
        self.access_log = access_log
        self.before = site.dump()
        self.outcomes: list[MigratedBatch] = site.migrate()
        self.after = site.dump()

    def outcome_of_each_file(self) -> dict[str, str]:
        """What the state tables say of each file: its state, its quarantine reason, or its class."""
        rows = self.site.execute(
            "SELECT path, class, state, error_type FROM pp_photo WHERE source IS NOT NULL ORDER BY path"
        )
        assert len({row[0] for row in rows}) == len(rows), "a file stands in two outcomes"
        return {path: state if state == "migrated" else (error or kind) for path, kind, state, error in rows}

    def variants(self) -> list[Any]:
        return self.site.execute("""SELECT * FROM pp_object WHERE recipe != '' ORDER BY "key" """)


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        yield patch


@pytest.fixture(scope="module", params=["one of each kind", pytest.param("all", marks=pytest.mark.slow)])
def chosen(shared_photos: Path, request: pytest.FixtureRequest) -> Chosen:
    files = [(folder, p.name) for folder in FOLDERS for p in sorted((shared_photos / folder).iterdir())]
    if request.param != "all":
        real = {(folder, name) for folder, name in files if folder == "real" and name in FEW_REAL}
        assert len(real) == len(FEW_REAL), "the shared photos were renamed"
        files = [
            (folder, name)
            for folder, name in files
            if (folder, name) in real or (folder == "hostile" and name not in FURTHER_HOSTILE)
        ]
    names = [f"{folder}/{name}" for folder, name in files]
    if request.param == "all":
        return Chosen(names, DEFAULT_SIDE, DEFAULT_BUDGET)
    return Chosen(names, QUICK_SIDE, QUICK_BUDGET)


@pytest.fixture(scope="module")
def names(chosen: Chosen) -> list[str]:
    return chosen.names


@pytest.fixture(scope="module")
def migrated(
    tmp_path_factory: pytest.TempPathFactory,
    servers: RunningServers,
    s3_access_log: Path,
    shared_photos: Path,
    chosen: Chosen,
    environment: pytest.MonkeyPatch,
) -> Migrated:
    """All files, read where they are: two roots and two sources on one table."""
    home = tmp_path_factory.mktemp("shared")
    url = f"sqlite:///{home / 'app.db'}"
    environment.setenv("APP_DATABASE_URL", url)
    site = build_site(
        home,
        url=url,
        servers=servers,
        name=uuid.uuid4().hex[:8],
        photos=0,
        batch_size=1000,
        rows=[item_photo(number, f"/{name}") for number, name in enumerate(chosen.names)],
        sources=[source_of(folder) for folder in FOLDERS],
        roots=[
            {"name": folder, "dir": str(shared_photos / folder), "url_prefixes": [f"/{folder}/"]}
            for folder in FOLDERS
        ],
        variants=with_full_of(chosen),
    )
    return Migrated(site, s3_access_log, chosen)


def with_full_of(chosen: Chosen) -> dict[str, Any]:
    full = {"fit": "inside", "width": chosen.side, "height": chosen.side, "max_bytes": chosen.budget}
    return {"default": {"full": full, "thumb": {"fit": "cover", "width": 150, "height": 150}}}


def source_of(folder: str) -> dict[str, Any]:
    field = {"kind": "url", "column": "original_url", "root": folder, "role": "primary", "variant": "full"}
    where = [{"column": "original_url", "op": "like", "value": f"/{folder}/%"}]
    return copy.deepcopy(ITEM_PHOTOS) | {"name": folder, "where": where, "fields": [field]}


def test_every_file_is_in_exactly_the_outcome_that_it_deserves(migrated: Migrated, names: list[str]) -> None:
    wanted = {Path(name).name: "migrated" for name in names} | QUARANTINED | NOT_MATCHED
    assert migrated.outcome_of_each_file() == wanted
    assert len(wanted) == len(names)


def test_the_batch_is_completed_and_everything_in_it_validates(migrated: Migrated, names: list[str]) -> None:
    whole = len(names) - len(QUARANTINED) - len(NOT_MATCHED)
    (outcome,) = migrated.outcomes
    assert outcome.state == "completed"
    assert (outcome.processed.quarantined, outcome.rewritten.rewritten) == (len(QUARANTINED), whole)
    assert (outcome.validated.passed, outcome.validated.failed) == (whole, 0)


def test_a_row_is_rewritten_exactly_where_its_photo_was_migrated(migrated: Migrated) -> None:
    outcomes = migrated.outcome_of_each_file()
    left = migrated.site.execute("SELECT original_url FROM item_photos WHERE original_url LIKE '/%'")
    assert {Path(row[0]).name for row in left} == {
        name for name, outcome in outcomes.items() if outcome != "migrated"
    }


def test_every_variant_is_delivered_clean_and_within_its_budget(migrated: Migrated) -> None:
    """Every format of every variant, fetched as a visitor would."""
    base = migrated.site.settings["cdn"]["base_url"]
    http = urllib3.PoolManager()
    variants = migrated.variants()
    for each in variants:
        answer = http.request("GET", f"{base}/{each.key}")
        assert (answer.status, len(answer.data)) == (200, each.bytes), each.key
        assert answer.headers["Content-Type"] == each.mime
        with Image.open(io.BytesIO(answer.data)) as picture:
            picture.load()
            assert picture.size == (each.width, each.height)
            assert max(picture.size) <= {"full": migrated.chosen.side, "thumb": 150}[each.variant]
            leaks = {name for name in ("exif", "xmp", "icc_profile", "comment") if picture.info.get(name)}
            assert (dict(picture.getexif()), leaks) == ({}, set()), each.key
        if each.variant == "full":
            assert each.bytes <= migrated.chosen.budget or not each.met_target, each.key
    formats = Counter(each.format for each in variants)
    assert formats == dict.fromkeys(("avif", "webp", "jpeg"), len(variants) // 3)


def test_rows_name_urls_that_deliver_what_the_row_says(migrated: Migrated) -> None:
    rows = migrated.site.execute(
        "SELECT original_url, file_size, mime_type, width, height FROM item_photos "
        "WHERE original_url LIKE 'http%'"
    )
    assert rows
    http = urllib3.PoolManager()
    for url, size, mime, width, height in rows:
        answer = http.request("GET", url)
        assert (answer.status, len(answer.data), answer.headers["Content-Type"]) == (200, size, mime)
        with Image.open(io.BytesIO(answer.data)) as picture:
            assert picture.size == (width, height)


def test_originals_are_kept_byte_for_byte_and_never_served(migrated: Migrated) -> None:
    base = migrated.site.settings["cdn"]["base_url"]
    originals = migrated.site.execute("""SELECT "key", checksum FROM pp_object WHERE recipe = ''""")
    files = migrated.site.execute("SELECT DISTINCT sha256 FROM pp_photo WHERE state = 'migrated'")
    assert {checksum for _, checksum in originals} == {row[0] for row in files}
    assert {urllib3.request("HEAD", f"{base}/{key}").status for key, _ in originals} == {403}


def test_a_second_run_sends_nothing_and_writes_nothing(migrated: Migrated) -> None:
    log = migrated.access_log
    earlier = len(log.read_text(encoding="utf-8").splitlines())
    ledger = migrated.site.execute("SELECT COUNT(*) FROM pp_rewrite")
    assert migrated.site.migrate() == []
    assert migrated.site.dump() == migrated.after
    assert migrated.site.execute("SELECT COUNT(*) FROM pp_rewrite") == ledger
    later = log.read_text(encoding="utf-8").splitlines()[earlier:]
    assert [line for line in map(json.loads, later) if line["method"] == "PUT"] == []


def test_at_last_a_rollback_leaves_the_application_byte_identical(migrated: Migrated) -> None:
    assert migrated.after != migrated.before
    migrated.site.roll_back()
    assert migrated.site.dump() == migrated.before
