"""Validation from the outside: what rows name and the CDN delivers, nothing asked for that is not proven."""

import weakref
from collections import Counter
from typing import Any

import pytest

from photo_pipeline.core.delivery.cdn import Cdn, Delivered
from photo_pipeline.core.migration.invariants import validation_passed
from photo_pipeline.core.migration.validate import Validated, validate_batch
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rolled_back
from photo_pipeline_tests.core.migration.test_keys_of_the_application import site_with
from photo_pipeline_tests.core.migration.test_modes import files_site
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

BATCH = "batch-000001"
SMALL = {"default": {"full": {"fit": "inside", "width": 64, "height": 64}}}


def source(**rewrite: str) -> dict[str, Any]:
    """One photo field, without a variant that is small already."""
    return ITEM_PHOTOS | {
        "fields": ITEM_PHOTOS["fields"][:1],
        "rewrite": {"mode": "url", "format": "jpeg"} | rewrite,
    }


def validated(site: Site, **options: Any) -> Validated:
    with site.project() as project:
        return validate_batch(project.database, project.config, project.cdn, BATCH, run="r", **options)


def problems(found: Validated) -> list[str]:
    return [problem for finding in found.findings for problem in finding.problems]


def small_site(make_site: MakeSite, photos: int = 2, **rewrite: str) -> Site:
    site = make_site(photos=photos, sources=[source(**rewrite)], variants=SMALL)
    site.migrate()
    return site


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that the CDN is asked for."""
    urls: list[str] = []
    real = Cdn.fetch

    def fetch(cdn: Cdn, url: str, **options: Any) -> Delivered:
        urls.append(url)
        return real(cdn, url, **options)

    monkeypatch.setattr(Cdn, "fetch", fetch)
    return urls


@pytest.mark.parametrize(("rewrite", "by_accept"), [({}, 0), ({"mode": "key"}, 0), ({"format": "auto"}, 1)])
def test_what_was_migrated_well_passes(
    make_site: MakeSite, fetched: list[str], rewrite: dict[str, str], by_accept: int
) -> None:
    site = small_site(make_site, **rewrite)
    fetched.clear()
    found = validated(site)
    assert (found.photos, found.checked, found.passed, problems(found)) == (2, 2, 2, [])
    ((total,),) = site.execute("SELECT SUM(bytes) FROM pp_object WHERE variant = 'full'")
    assert (found.urls_fetched, found.bytes_fetched) == (6 + 6 * by_accept, total * (1 + by_accept))
    # By name each once; an .auto URL once for each format that a browser may take.
    assert sorted(Counter(fetched).values()) == [1] * 6 + [3, 3] * by_accept


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE pp_object SET verified_at = NULL WHERE key = :key",
        "UPDATE pp_object SET deleted_at = verified_at WHERE key = :key",
        "DELETE FROM pp_object WHERE key = :key",
    ],
)
def test_what_is_not_proven_is_a_problem_and_never_asked_for(
    make_site: MakeSite, fetched: list[str], change: str
) -> None:
    site = small_site(make_site)
    ((key,), *_) = site.execute("SELECT key FROM pp_object WHERE format = 'webp' ORDER BY key")
    site.execute(change, key=key)
    fetched.clear()
    found = validated(site)
    assert problems(found) == [f"full webp: no proven object {key}"]
    assert (found.passed, found.failed, found.urls_fetched) == (1, 1, 5)
    assert not [url for url in fetched if url.endswith(key)]


def renamed(site: Site, old: str, new: str) -> None:
    """Let a row and its photo name another object, as a fault of ours would."""
    for table, column in (("item_photos", "original_url"), ("pp_photo", "new_value")):
        site.execute(f"UPDATE {table} SET {column} = replace({column}, :old, :new)", old=old, new=new)


@pytest.mark.parametrize("rewrite", [{}, {"mode": "key"}])
def test_a_row_that_names_an_object_nobody_proved_does_not_pass(
    make_site: MakeSite, rewrite: dict[str, str]
) -> None:
    site = small_site(make_site, photos=1, **rewrite)
    ((key,),) = site.execute("SELECT key FROM pp_object WHERE variant = 'full' AND format = 'jpeg'")
    renamed(site, "/full.jpg", "/huge.jpg")
    wrong = key.replace("/full.jpg", "/huge.jpg")
    assert problems(validated(site)) == [f"the row names an object that is not proven ({wrong})"]


def test_a_negotiated_url_needs_all_its_formats(make_site: MakeSite) -> None:
    site = small_site(make_site, photos=1, format="auto")
    renamed(site, "/full.auto", "/huge.auto")
    (problem,) = problems(validated(site))
    assert problem.startswith("the row names an object that is not proven (")
    assert [problem.count(f"/huge.{name}") for name in ("avif", "webp", "jpg", "auto")] == [1, 1, 1, 0]


def test_a_row_that_names_another_proven_object_does_not_pass(make_site: MakeSite) -> None:
    site = small_site(make_site)
    site.execute("UPDATE item_photos SET original_url = (SELECT max(original_url) FROM item_photos)")
    (problem,) = problems(validated(site))
    assert problem.startswith("the row's original_url says 'http")


@pytest.mark.parametrize("quantity", ["url.thumb", "s3_key", "formats_json"])
def test_a_written_back_address_that_was_changed_does_not_pass(make_site: MakeSite, quantity: str) -> None:
    rewrite = ITEM_PHOTOS["rewrite"] | {"write_back": {"elsewhere": quantity, "bytes_there": "bytes"}}
    site = make_site(photos=1, sources=[ITEM_PHOTOS | {"rewrite": rewrite}])
    site.execute("ALTER TABLE item_photos ADD COLUMN elsewhere TEXT")
    site.execute("ALTER TABLE item_photos ADD COLUMN bytes_there INTEGER")
    site.migrate()
    assert problems(validated(site)) == []
    ((written,),) = site.execute("SELECT elsewhere FROM item_photos")
    site.execute("UPDATE item_photos SET elsewhere = 'https://nowhere.example/x.jpg', bytes_there = 1")
    assert problems(validated(site)) == [
        f"the row's elsewhere says 'https://nowhere.example/x.jpg', not {written!r}"
    ]


def test_in_mode_columns_a_row_that_shows_another_file_does_not_pass(make_site: MakeSite) -> None:
    site = files_site(make_site, "sqlite")
    site.migrate()
    assert problems(validated(site)) == []
    site.execute("UPDATE files SET path = 'items/nothing-there.jpg' WHERE id = 0")
    assert problems(validated(site)) == ["the row's path says 'items/nothing-there.jpg', not 'items/0.jpg'"]


def test_a_key_of_the_application_s_that_holds_another_file_does_not_pass(make_site: MakeSite) -> None:
    site = site_with(make_site, "{path}")
    site.migrate()
    assert problems(validated(site)) == []
    # As an earlier version, which took any proven object under the key for this file's.
    copies = "SELECT key, checksum, bytes FROM pp_object WHERE variant = 'framework' ORDER BY key"
    (first, _, _), (other, checksum, size) = site.execute(copies)
    with site.project() as project:
        data = project.store.read(other)
        project.store.delete(first)
        project.store.put_new(first, data, content_type="image/jpeg")
    changed = "UPDATE pp_object SET checksum = :checksum, bytes = :size WHERE key = :first"
    site.execute(changed, checksum=checksum, size=size, first=first)
    assert problems(validated(site)) == [f"framework jpeg: no proven object {first}"]


@pytest.mark.slow
def test_bodies_are_judged_as_they_come_and_not_kept(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = small_site(make_site, photos=12)
    answers: list[weakref.ref[Delivered]] = []
    alive: list[int] = []
    fetch = Cdn.fetch

    def noting(cdn: Cdn, url: str, **options: Any) -> Delivered:
        answer = fetch(cdn, url, **options)
        answers.append(weakref.ref(answer))
        return answer

    monkeypatch.setattr(Cdn, "fetch", noting)

    def count(kind: str, done: int, total: int | None) -> None:
        alive.append(sum(each() is not None for each in answers))

    found = validated(site, progress=count)
    assert (found.passed, found.urls_fetched) == (12, 36)
    assert max(alive) <= 8  # one per thread


def test_other_bytes_from_the_cdn_are_a_problem_of_each_row_that_shows_them(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [item_photo(n, "/uploads/items/0.jpg") for n in range(2)]
    site = make_site(photos=1, sources=[source()], variants=SMALL, rows=rows)
    site.migrate()
    real = Cdn.fetch

    def broken(cdn: Cdn, url: str, **options: Any) -> Delivered:
        answer = real(cdn, url, **options)
        if not url.endswith(".jpg"):
            return answer
        return Delivered(url, 200, answer.body[:50], answer.content_type, answer.cache_control)

    monkeypatch.setattr(Cdn, "fetch", broken)
    found = validated(site)
    assert (found.failed, found.urls_fetched) == (2, 3)
    for finding in found.findings:
        bytes_differ, decodes_not = finding.problems
        assert bytes_differ.endswith("delivers other bytes than the store was given")
        assert decodes_not.startswith("full jpeg: it does not decode")


def test_results_of_photos_that_are_no_longer_migrated_do_not_count(make_site: MakeSite) -> None:
    site = small_site(make_site)
    site.execute("UPDATE item_photos SET original_url = '/elsewhere.jpg' WHERE alt = 'photo 0'")
    assert validated(site).failed == 1
    with site.project() as project:
        before = validation_passed(project.database, BATCH)
    assert (before.checked, before.violations, before.holds) == (2, 1, False)
    rolled_back(site)
    with site.project() as project:
        after = validation_passed(project.database, BATCH)
    assert (after.checked, after.violations, after.holds) == (0, 0, True)
