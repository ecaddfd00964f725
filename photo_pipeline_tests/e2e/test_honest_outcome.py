"""What the command says about a migration is true: exit codes, validation, presets changed, stuck photos."""

import json
from typing import Any

import pytest
import urllib3
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.core.delivery.cdn import Cdn, Delivered
from photo_pipeline.core.errors import DeliveryError
from photo_pipeline.core.migration import run as operations
from photo_pipeline.core.migration.invariants import every_rewritten_row_is_backed
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

NARROWER = {
    "default": {
        "full": {"fit": "inside", "width": 1000, "height": 1000, "max_bytes": "100 KB"},
        "thumb": {"fit": "cover", "width": 150, "height": 150},
    }
}
DONE, FINDINGS, REFUSED, DOWN = 0, 1, 3, 4


def command(*arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it printed on standard output."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def document(*arguments: str) -> tuple[int, Any]:
    code, output = command(*arguments, "--json")
    return code, json.loads(output)


def small_site(make_site: MakeSite, photos: int = 2, **settings: Any) -> Site:
    """A site whose photos are so small that encoding them takes no time."""
    rows = settings.pop("rows", [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(photos)])
    site = make_site(photos=0, rows=rows, **settings)
    for number in range(photos):
        photo(site.uploads / f"items/{number}.jpg", width=64, height=48, seed=number)
    return site


def break_photo(site: Site, number: int) -> bytes:
    """Truncate a file; return its whole content."""
    file = site.uploads / f"items/{number}.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    return whole


def assert_every_named_url_answers(site: Site) -> None:
    rows = site.execute("SELECT original_url, thumbnail_url FROM item_photos")
    urls = [value for row in rows for value in row if value and value.startswith("http")]
    assert {urllib3.request("GET", url).status for url in urls} == {200}


# Exit codes


def test_migrate_exits_1_for_as_long_as_a_photo_stands_in_quarantine(make_site: MakeSite) -> None:
    site = small_site(make_site)
    whole = break_photo(site, 1)
    for _ in range(2):
        assert command("migrate")[0] == FINDINGS
        assert site.states() == {"migrated": 1, "quarantined": 1}
    (site.uploads / "items/1.jpg").write_bytes(whole)
    assert command("migrate", "--retry-failed")[0] == DONE
    assert site.states() == {"migrated": 2}


def test_migrate_exits_1_for_a_quarantined_photo_that_is_in_no_batch_and_status_shows_it(
    make_site: MakeSite,
) -> None:
    alone = item_photo(0, None, "/uploads/items/0.jpg")
    site = small_site(make_site, rows=[alone, item_photo(1, "/uploads/items/1.jpg")])
    for _ in range(2):
        assert command("migrate")[0] == FINDINGS
        assert site.execute("SELECT batch FROM pp_photo WHERE state = 'quarantined'") == [(None,)]
    assert "quarantined" in command("status")[1]
    assert "quarantined" in json.dumps(document("status")[1])


def test_migrate_exits_0_when_every_photo_is_where_it_belongs(make_site: MakeSite) -> None:
    site = small_site(make_site)
    for _ in range(2):
        assert command("migrate")[0] == DONE
    assert "quarantined" not in json.dumps(document("status")[1])
    assert site.states() == {"migrated": 2}


def test_a_rollback_without_the_uploads_folder_exits_as_refused_or_down(make_site: MakeSite) -> None:
    site = small_site(make_site)
    command("migrate")
    on_cdn = site.dump()
    site.uploads.rename(site.home / "unmounted")
    assert command("rollback", "--all")[0] in (REFUSED, DOWN)
    assert site.dump() == on_cdn


# Validation


@pytest.mark.parametrize(
    ("interruption", "code"),
    [(DeliveryError("the CDN", cause="it is down", fix="wait"), DOWN), (KeyboardInterrupt(), 130)],
    ids=["cdn-down", "interrupted"],
)
def test_a_batch_whose_validation_was_interrupted_is_validated_by_the_next_migrate(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, code: int
) -> None:
    site = small_site(make_site)

    def interrupted(*_arguments: object, **_options: object) -> None:
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(operations, "validate_batch", interrupted)
        assert command("migrate")[0] == code
    assert site.states() == {"migrated": 2}
    assert site.execute("SELECT COUNT(*) FROM pp_validation") == [(0,)]
    assert command("migrate")[0] == DONE
    assert site.execute("SELECT ok, COUNT(*) FROM pp_validation GROUP BY ok") == [(1, 2)]
    runs = site.execute("SELECT run FROM pp_validation")
    assert command("migrate")[0] == DONE
    assert site.execute("SELECT run FROM pp_validation") == runs


def test_validate_still_checks_photos_that_the_sources_filter_hides_once_they_are_migrated(
    make_site: MakeSite,
) -> None:
    where = [{"column": "original_url", "op": "like", "value": "/uploads/%"}]
    small_site(make_site, sources=[ITEM_PHOTOS | {"where": where}])
    for _ in range(2):
        assert command("migrate")[0] == DONE
    code, results = document("validate")
    assert code == DONE
    assert [(each["checked"], each["passed"]) for each in results["batches"].values()] == [(2, 2)]


# Presets that changed after photos were migrated


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every address that is requested from the CDN, with its status."""
    fetch = Cdn.fetch
    requests: list[tuple[str, int]] = []

    def remembered(self: Cdn, url: str, **options: Any) -> Delivered:
        answer = fetch(self, url, **options)
        requests.append((url, answer.status))
        return answer

    monkeypatch.setattr(Cdn, "fetch", remembered)
    return requests


@pytest.mark.slow
def test_batches_migrated_under_another_preset_pass_their_validation_without_a_request_for_nothing(
    make_site: MakeSite, asked: list[tuple[str, int]]
) -> None:
    site = small_site(make_site)
    assert command("migrate")[0] == DONE
    asked.clear()
    site.configure(variants=NARROWER)
    code, results = document("validate")
    assert code == DONE
    assert [(each["checked"], each["passed"]) for each in results["batches"].values()] == [(2, 2)]
    assert len(asked) == 2 * 6
    assert command("migrate")[0] == DONE
    assert {status for _, status in asked} == {200}


def test_rows_migrated_under_another_preset_are_still_backed_by_proven_objects(make_site: MakeSite) -> None:
    site = small_site(make_site)
    site.migrate()
    site.configure(variants=NARROWER)
    with site.project() as project:
        backed = every_rewritten_row_is_backed(project.database, project.config, "batch-000001")
    assert (backed.checked, backed.violations) == (2, 0)


@pytest.mark.slow
def test_a_thumbnail_that_appears_after_a_change_of_the_preset_is_settled_and_asked_for_no_more(
    make_site: MakeSite,
) -> None:
    site = small_site(make_site)
    site.migrate()
    site.configure(variants=NARROWER)
    photo(site.uploads / "t.jpg", width=32, height=24, seed=9)
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/t.jpg' WHERE display_order = 1")
    command("migrate")
    ((state, detail),) = site.execute("SELECT state, error_detail FROM pp_photo WHERE path = 't.jpg'")
    assert state == "migrated" or (state in ("quarantined", "conflict") and detail)
    assert site.execute("SELECT DISTINCT state, error FROM pp_batch") == [("completed", None)]
    assert site.migrate() == []
    assert_every_named_url_answers(site)
    assert document("validate")[0] == DONE


@pytest.mark.slow
def test_photos_migrated_before_and_after_a_change_of_the_preset_all_go_back(make_site: MakeSite) -> None:
    site = small_site(make_site)
    before = site.dump()
    site.migrate()
    site.configure(variants=NARROWER)
    photo(site.uploads / "items/late.jpg", width=64, height=48, seed=9)
    late = item_photo(7, "/uploads/items/late.jpg")
    site.execute(
        f"INSERT INTO item_photos ({', '.join(late)}) VALUES ({', '.join(f':{name}' for name in late)})",
        **late,
    )
    site.migrate()
    assert document("validate")[0] == DONE
    assert_every_named_url_answers(site)
    site.roll_back()
    site.execute("DELETE FROM item_photos WHERE id = :id", id=late["id"])
    assert site.dump() == before
