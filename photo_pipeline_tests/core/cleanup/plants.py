"""What may be planted in a world: things that look like orphans and are none, orphans, and drift.

Each function plants one thing. Harmless ones note nothing: whatever a scan says of them is a false positive.
"""

from collections.abc import Callable
from datetime import timedelta

from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline_tests.core.cleanup.worlds import EARLIER_RECIPE, FRESH, OPEN, SPELLINGS, World

Plant = Callable[[World], None]


def _spelled(world: World, key: str) -> str:
    return world.random.choice(SPELLINGS)(world.url(key))


# --- harmless


def a_migrated_photo(world: World) -> None:
    world.migrated()


def an_open_photo_with_all_its_objects(world: World) -> None:
    sha, recipe = world.sha("open"), world.random.choice([world.recipe, "abcabcabcabc"])
    row = world.item("/uploads/items/0.jpg")
    world.photo(world.random.choice(OPEN), recipe=None, row_key=row, source="item_photos", sha=sha)
    for key in world.random.sample(world.family(sha, recipe), 3):
        world.store.remove(key)  # pending: not all are there yet
        world.rows_of_objects()[key]["verified_at"] = None
    world.put(world.original(sha))  # sent, and not written down yet


def an_unknown_object_that_is_fresh(world: World) -> None:
    world.put(world.key(world.sha("fresh"), world.recipe, "full.jpg"), FRESH)


def an_object_that_only_another_table_names(world: World) -> None:
    key = world.key(world.sha("note"), "0123456789ab", "full.webp")
    world.put(key)
    world.note(_spelled(world, key))


def a_sibling_of_an_object_that_a_text_names(world: World) -> None:
    sha = world.sha("sibling")
    for file in ("full.jpg", "full.avif", "thumb.jpg"):
        world.put(world.key(sha, "0123456789ab", file))
    world.put(world.original(sha, "png"))
    world.post(_spelled(world, world.key(sha, "0123456789ab", "full.jpg")))


def objects_that_only_the_ledger_names(world: World) -> None:
    sha = world.sha("ledger")
    key = world.object(sha, EARLIER_RECIPE, "full.jpg")
    row = world.item(None)
    photo = world.photo(
        PhotoState.SUPERSEDED, recipe=EARLIER_RECIPE, row_key=row, source="item_photos", sha=sha
    )
    world.rewritten(photo, row, world.url(key), "https://elsewhere.example/1.jpg")


def a_photo_of_a_source_that_is_declared_no_more(world: World) -> None:
    sha = world.sha("gone source")
    world.object(sha, EARLIER_RECIPE, "full.jpg")
    world.photo(PhotoState.MIGRATED, recipe=EARLIER_RECIPE, row_key='["x"]', source="former", sha=sha)


def two_photos_of_one_content_of_which_one_row_is_gone(world: World) -> None:
    sha, _, _ = world.migrated()
    world.photo(PhotoState.MIGRATED, recipe=world.recipe, row_key='["gone"]', source="item_photos", sha=sha)


def other_peoples_keys(world: World) -> None:
    prefix, originals = world.config.store.prefix, world.config.store.originals_prefix
    for key in (f"{prefix}2/a.jpg", f"{originals}-backups/b.parquet", "index.html", f"x/{prefix}/c.jpg"):
        world.put(key)


def a_strange_key_that_a_text_names(world: World) -> None:
    name = f"banner-{world.number()}.jpg"
    world.put(f"{world.config.store.prefix}/{name}")
    world.note(f"<a href='/cdn/{name}?x=1'>")


def a_copied_text_with_an_auto_url(world: World) -> None:
    sha, _, _ = world.migrated()
    recipe = world.rows_of_photos()[-1]["recipe"]
    world.post(_spelled(world, world.key(sha, recipe, "thumb.auto")))


HARMLESS: tuple[Plant, ...] = (
    *(a_migrated_photo, an_open_photo_with_all_its_objects, an_unknown_object_that_is_fresh),
    *(an_object_that_only_another_table_names, a_sibling_of_an_object_that_a_text_names),
    *(objects_that_only_the_ledger_names, a_photo_of_a_source_that_is_declared_no_more),
    *(two_photos_of_one_content_of_which_one_row_is_gone, other_peoples_keys),
    *(a_strange_key_that_a_text_names, a_copied_text_with_an_auto_url),
)

# --- orphans


def _orphan(world: World, key: str, kind: str) -> None:
    world.planted[key] = kind


def an_object_of_unknown_content(world: World) -> None:
    key = world.key(world.sha("nobody"), world.recipe, world.random.choice(["full.jpg", "thumb.avif"]))
    world.put(key)
    _orphan(world, key, "unknown content")


def an_unknown_recipe_of_a_migrated_photo(world: World) -> None:
    sha, _, _ = world.migrated()
    key = world.key(sha, "fffffffffff0", "full.jpg")
    world.put(key)
    _orphan(world, key, "unknown recipe")


def a_file_that_no_recipe_makes(world: World) -> None:
    sha, _, _ = world.migrated()
    key = world.key(sha, world.rows_of_photos()[-1]["recipe"], "poster.jpg")
    world.put(key)
    _orphan(world, key, "unknown file")


def an_original_of_nobody(world: World) -> None:
    key = world.original(world.sha("no original"))
    world.put(key)
    _orphan(world, key, "unknown original")


def an_original_of_another_format(world: World) -> None:
    sha, _, _ = world.migrated()
    if any(sha in str(values) for name, values in world.cells) or any(
        sha in row["after"] for row in world.rows_of_rewrites()
    ):
        return  # a text names the content, and then in doubt every original of it stays
    key = world.original(sha, "png")
    world.put(key)
    _orphan(world, key, "original of another format")


def objects_whose_row_was_deleted(world: World) -> None:
    sha = world.sha("deleted row")
    keys = [*world.family(sha, world.recipe), world.object(sha, "", "original.jpg")]
    photo = world.photo(
        world.random.choice([PhotoState.MIGRATED, PhotoState.SUPERSEDED]),
        recipe=world.recipe,
        row_key='["deleted"]',
        source="item_photos",
        sha=sha,
    )
    if world.random.random() < 0.5:
        world.rewritten(photo, '["deleted"]', "/uploads/x.jpg", world.url(keys[0]))
    for key in keys:
        _orphan(world, key, "deleted row")


def objects_of_a_value_that_was_replaced(world: World) -> None:
    sha = world.sha("replaced")
    row = world.item("/uploads/items/new.jpg")
    world.photo(PhotoState.SUPERSEDED, recipe=None, row_key=row, source="item_photos", sha=sha)
    for key in world.family(sha, world.recipe)[:2]:
        _orphan(world, key, "replaced value")
    for key in world.family_left(sha)[2:]:
        world.store.remove(key)
        world.rows_of_objects()[key]["verified_at"] = None


def a_strange_key_of_nobody(world: World) -> None:
    key = f"{world.config.store.prefix}/holiday-{world.number()}.jpg"
    world.put(key)
    world.foreign.add(key)


ORPHANS: tuple[Plant, ...] = (
    *(an_object_of_unknown_content, an_unknown_recipe_of_a_migrated_photo, a_file_that_no_recipe_makes),
    *(an_original_of_nobody, an_original_of_another_format, objects_whose_row_was_deleted),
    *(objects_of_a_value_that_was_replaced, a_strange_key_of_nobody),
)

# --- drift


def _victim(world: World) -> str:
    _, keys, _ = world.migrated()
    named = str([values for _, values in world.cells])
    # What a cell shows would be found twice: as a row of the catalog, and as the cell.
    return world.random.choice([key for key in keys if key not in named and "full." not in key])


def an_object_is_missing(world: World) -> None:
    key = _victim(world)
    world.store.remove(key)
    world.drifted.add(("missing", key))


def an_object_has_another_size(world: World) -> None:
    key = _victim(world)
    world.store.overwrite(key, b"cut", age=timedelta(days=1))
    world.drifted.add(("wrong_size", key))


def an_object_has_other_bytes(world: World) -> None:
    key = _victim(world)
    data = bytearray(world.store.objects[key][0])
    data[world.random.randrange(len(data))] ^= 1
    world.store.overwrite(key, bytes(data), age=timedelta(days=1))
    world.drifted.add(("wrong_checksum", key))


def a_cell_shows_what_is_not_there(world: World) -> None:
    key = world.key(world.sha("dangling"), world.recipe, world.random.choice(["full.jpg", "thumb.auto"]))
    if world.random.random() < 0.5:
        world.item(world.url(key))
    else:
        world.post(_spelled(world, key))
    world.drifted.add(("dangling_cell", key))


DRIFT: tuple[Plant, ...] = (
    *(an_object_is_missing, an_object_has_another_size, an_object_has_other_bytes),
    a_cell_shows_what_is_not_there,
)
