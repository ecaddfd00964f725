"""The shipped presets on one photo each: every variant in every format, fetched as a visitor would."""

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from PIL import Image

from photo_pipeline.core.config import DEFAULT_VARIANTS
from photo_pipeline.core.report.data import collect
from photo_pipeline.core.report.write import write_report
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

FORMATS = ("avif", "jpeg", "webp")
THUMB = (150, 150)


def of_preset(preset: str, variant: str) -> dict[str, Any]:
    """The source under another preset; its rows show the given variant, and the thumb beside it."""
    source = copy.deepcopy(ITEM_PHOTOS) | {"preset": preset}
    source["fields"][0]["variant"] = variant
    source["rewrite"]["write_back"] |= {"thumbnail_url": "url.thumb"}
    source["fields"] = source["fields"][:1]
    return source


def site_of_one(make_site: MakeSite, size: tuple[int, int], source: dict[str, Any]) -> Site:
    site = make_site(photos=0, rows=[item_photo(0, "/uploads/a.jpg")], sources=[source])
    photo(site.uploads / "a.jpg", width=size[0], height=size[1], quality=90)
    return site


def delivered(site: Site) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Each variant's row of the catalog, and the size that the CDN delivers it in."""
    base = site.settings["cdn"]["base_url"]
    for row in site.execute("SELECT * FROM pp_object WHERE recipe != '' AND verified_at IS NOT NULL"):
        answer = urllib3.request("GET", f"{base}/{row.key}")
        assert (answer.status, len(answer.data)) == (200, row.bytes), row.key
        with Image.open(io.BytesIO(answer.data)) as picture:
            yield row, picture.size


def sizes(site: Site, preset: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Sizes by variant and format, after each file was held against its byte target."""
    found = {}
    for row, size in delivered(site):
        target = DEFAULT_VARIANTS[preset][row.variant].max_bytes
        assert row.met_target, (row.variant, row.format)
        assert target is None or row.bytes <= target, (row.variant, row.format, row.bytes)
        found[row.variant, row.format] = size
    return found


def in_each_format(variants: dict[str, tuple[int, int]]) -> dict[tuple[str, str], tuple[int, int]]:
    return {(name, each): size for name, size in variants.items() for each in FORMATS}


@pytest.mark.slow
def test_responsive_makes_five_widths_and_the_thumb_within_their_bytes(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    site = site_of_one(make_site, (2000, 1500), of_preset("responsive", "w1200"))
    before = site.dump()
    (outcome,) = site.migrate()
    widths = {f"w{width}": (width, width * 3 // 4) for width in (300, 400, 800, 1200, 1600)}
    assert sizes(site, "responsive") == in_each_format(widths | {"thumb": THUMB})
    assert (outcome.validated.passed, outcome.validated.failed) == (1, 0)
    assert len(site.puts(s3_access_log)) == 6 * 3 + 1
    ((url, thumb, width),) = site.execute("SELECT original_url, thumbnail_url, width FROM item_photos")
    assert (url.rpartition("/")[2], thumb.rpartition("/")[2], width) == ("w1200.jpg", "thumb.jpg", 1200)
    site.roll_back()
    assert site.dump() == before


def test_responsive_never_enlarges_and_its_width_alone_limits_a_portrait(make_site: MakeSite) -> None:
    site = site_of_one(make_site, (500, 900), of_preset("responsive", "w1600"))
    site.migrate()
    small = {"w300": (300, 540), "w400": (400, 720)}
    own = dict.fromkeys(("w800", "w1200", "w1600"), (500, 900))
    assert sizes(site, "responsive") == in_each_format(small | own | {"thumb": THUMB})


@pytest.mark.parametrize(
    ("size", "made"),
    [
        pytest.param((2000, 1500), (2000, 1500), marks=pytest.mark.slow),
        pytest.param((5000, 400), (4000, 320), marks=pytest.mark.slow),
        ((160, 4500), (142, 4000)),
    ],
)
def test_original_keeps_the_photos_size_up_to_4000_pixels(
    make_site: MakeSite, size: tuple[int, int], made: tuple[int, int]
) -> None:
    site = site_of_one(make_site, size, of_preset("original", "full"))
    (outcome,) = site.migrate()
    assert sizes(site, "original") == in_each_format({"full": made, "thumb": THUMB})
    assert (outcome.validated.passed, outcome.validated.failed) == (1, 0)


def test_the_report_compares_the_largest_variant_of_the_preset_with_the_photo(make_site: MakeSite) -> None:
    site = site_of_one(make_site, (640, 480), of_preset("responsive", "w400"))
    site.migrate()
    with site.project() as project:
        headline = collect(project.database, project.config).sizes.headline
        page = write_report(project.database, project.config, project.cdn).html.read_text(encoding="utf-8")
    ((largest,),) = site.execute("SELECT bytes FROM pp_object WHERE variant = 'w1600' AND format = 'jpeg'")
    assert headline is not None
    assert (headline.contents, headline.after_bytes) == (1, largest)
    assert "w1600" in page
