"""The report's worst pictures: the right ones, the right detail of them, and a page whatever is gone."""

import io
import json
from base64 import b64decode
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
import sqlalchemy as sa
from PIL import Image

from photo_pipeline.core.catalog.tables import quality_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.project import Project
from photo_pipeline.core.report.data import collect
from photo_pipeline.core.report.quality_pictures import DETAIL, QualityPair, where_they_differ, worst_pairs
from photo_pipeline.core.report.visual_quality import WORST, VisualQuality, WorstVariant, collect_quality
from photo_pipeline.core.report.write import write_report
from photo_pipeline_tests.core.report import conftest

NO_CDN = "http://127.0.0.1:9"  # the discard port: refuses at once


def quality_of(project: Project) -> VisualQuality:
    return collect(project.database, project.config).quality


def page_of(project: Project, config: PipelineConfig | None = None) -> str:
    files = write_report(project.database, config or project.config, project.cdn)
    return files.html.read_text(encoding="utf-8")


def section(page: str) -> str:
    return page.partition('<section id="quality">')[2].partition("</section>")[0]


def scores(project: Project) -> dict[str, list[float]]:
    """Scores by extension, straight from the table."""
    found: dict[str, list[float]] = {}
    with project.database.read() as connection:
        for row in connection.execute(sa.select(quality_table)):
            found.setdefault(row.key.rpartition(".")[2], []).append(row.score)
    return found


def change(project: Project, key: str, **values: Any) -> None:
    with project.database.write() as connection:
        connection.execute(sa.update(quality_table).where(quality_table.c.key == key).values(**values))


def pairs_of(
    project: Project, config: PipelineConfig | None = None, cdn: Cdn | None = None
) -> tuple[QualityPair, ...]:
    config = config or project.config
    return worst_pairs(project.database, config, cdn or project.cdn, quality_of(project).worst)


def picture(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(b64decode(uri.partition(",")[2])))


def test_scores_are_told_by_format(migrated: Project) -> None:
    stored = scores(migrated)
    found = quality_of(migrated)
    assert [each.format for each in found.by_format] == ["avif", "webp", "jpeg"]
    assert (found.metrics, found.floor, found.measured, found.not_measured) == (
        ("ssimulacra2 0.3.0",),
        50,
        15,
        {},
    )
    for each, extension in zip(found.by_format, ("avif", "webp", "jpg"), strict=True):
        of_format = stored[extension]
        assert each.measured == len(of_format) == 5
        assert each.mean == pytest.approx(mean(of_format), abs=0.01)
        assert each.median == pytest.approx(median(of_format), abs=0.01)
        assert each.worst == pytest.approx(min(of_format), abs=0.01)
        assert each.below == sum(score < 50 for score in of_format)


def test_the_worst_are_one_variant_of_each_photo_the_worst_first(migrated: Project) -> None:
    worst = quality_of(migrated).worst
    assert len({each.path for each in worst}) == len(worst) == 5
    assert [each.score for each in worst] == sorted(each.score for each in worst)
    assert worst[0].score == min(min(each) for each in scores(migrated).values())
    change(migrated, worst[-1].key, score=-7.5)
    first = quality_of(migrated).worst[0]
    assert (first.key, first.score, first.path) == (worst[-1].key, -7.5, worst[-1].path)
    assert first.proven


def test_the_page_shows_the_worst_beside_their_photos(migrated: Project) -> None:
    worst = quality_of(migrated).worst
    change(migrated, worst[0].key, score=12.25)
    text = section(page_of(migrated))
    assert text.count("data:image/webp;base64,") == 10
    assert "<b>12.2 points</b> " in text
    assert "below the floor</span>" in text
    assert f"quality {worst[0].quality}" in text
    assert f"{worst[0].width} \u00d7 {worst[0].height} px" in text
    assert text.index("12.2 points") < text.index(f"{worst[1].score:.1f} points")


def test_no_more_than_a_handful_is_shown(migrated: Project) -> None:
    with migrated.database.read() as connection:
        assert len(collect_quality(connection, migrated.config, limit=2).worst) == 2
    assert WORST == 6


def test_both_sides_show_the_same_detail_at_the_variants_own_size(migrated: Project) -> None:
    for pair in pairs_of(migrated):
        sides = [picture(pair.original.data_uri), picture(pair.variant.data_uri)]
        wanted = (min(pair.worst.width, DETAIL[0]), min(pair.worst.height, DETAIL[1]))
        assert [side.size for side in sides] == [wanted, wanted]
        assert (pair.variant.bytes, pair.variant.width) == (pair.worst.bytes, pair.worst.width)
        assert (pair.url or "").startswith(f"{migrated.config.cdn.base_url}/")


@pytest.mark.parametrize("spot", [(0, 0), (1190, 790), (600, 10), (1190, 400)])
def test_the_detail_is_where_they_differ_most(spot: tuple[int, int]) -> None:
    original = Image.new("RGB", (1200, 800), "teal")
    variant = original.copy()
    variant.paste("red", (*spot, spot[0] + 10, spot[1] + 10))
    left, top, right, bottom = where_they_differ(original, variant, original.size)
    assert (right - left, bottom - top) == DETAIL
    assert left <= spot[0] < right
    assert top <= spot[1] < bottom
    assert 0 <= left < right <= 1200
    assert 0 <= top < bottom <= 800


@pytest.mark.parametrize("size", [(1, 1), (100, 3000), (360, 240), (361, 241)])
def test_a_detail_never_leaves_the_picture(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    for other in (image, "gone", Image.new("RGB", (5, 5))):
        left, top, right, bottom = where_they_differ(image, other, size)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_a_missing_local_file_is_told_in_its_place_and_the_variant_still_shown(
    migrated: Project, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    config = conftest.moved(migrated.config, uploads=tmp_path / "empty")
    for pair in pairs_of(migrated, config):
        assert pair.original.problem == "The local file is gone."
        assert pair.original.bytes
        assert pair.variant.data_uri
    assert "The local file is gone." in section(page_of(migrated, config))


def test_a_variant_that_is_nowhere_to_be_had_is_told_in_its_place(migrated: Project) -> None:
    config = conftest.moved(migrated.config, cdn=NO_CDN)
    for pair in pairs_of(migrated, config, Cdn(NO_CDN)):
        assert "it does not answer" in (pair.variant.problem or "")
        assert pair.original.data_uri
    with migrated.database.write() as connection:
        connection.execute(sa.text("UPDATE pp_object SET verified_at = NULL"))
    for pair in pairs_of(migrated, config, Cdn(NO_CDN)):
        assert pair.url is None
        assert pair.variant.problem == "It is neither in staging nor proven in the store."


def test_a_variant_that_waits_in_staging_is_shown_from_there(migrated: Project) -> None:
    worst = quality_of(migrated).worst[0]
    url = pairs_of(migrated)[0].url
    staged = migrated.config.state.staging_dir / worst.key
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(migrated.cdn.fetch(url or "", accept="*/*").body)
    config = conftest.moved(migrated.config, cdn=NO_CDN)
    assert pairs_of(migrated, config, Cdn(NO_CDN))[0].variant.data_uri
    staged.write_bytes(b"damaged")
    assert pairs_of(migrated, config, Cdn(NO_CDN))[0].variant.problem


def test_what_could_not_be_measured_is_counted_by_reason(migrated: Project) -> None:
    keys = [each.key for each in quality_of(migrated).worst[:2]]
    for key in keys:
        change(migrated, key, score=None, reason="it took <too> long")
    found = quality_of(migrated)
    assert (found.measured, found.not_measured) == (13, {"it took <too> long": 2})
    assert "2 not measured: " in section(page_of(migrated))
    assert "it took &lt;too&gt; long" in section(page_of(migrated))


def test_a_migration_without_measurements_says_so(fresh: Project) -> None:
    conftest.inventory(fresh)
    assert quality_of(fresh) == VisualQuality(floor=50)
    assert "Nothing was measured." in section(page_of(fresh))


def test_deleted_variants_no_longer_count(migrated: Project) -> None:
    with migrated.database.write() as connection:
        connection.execute(sa.text("UPDATE pp_object SET deleted_at = made_at WHERE format = 'webp'"))
    assert [each.format for each in quality_of(migrated).by_format] == ["avif", "jpeg"]


def test_the_json_names_the_worst(migrated: Project) -> None:
    files = write_report(migrated.database, migrated.config, migrated.cdn)
    told = json.loads(files.json.read_text(encoding="utf-8"))["quality"]
    worst = quality_of(migrated).worst[0]
    assert told["floor"] == 50
    assert told["worst"][0]["path"] == worst.path
    assert told["worst"][0]["score"] == worst.score
    assert {each["format"] for each in told["by_format"]} == {"avif", "webp", "jpeg"}
    assert set(told["worst"][0]) == set(WorstVariant.__dataclass_fields__)
