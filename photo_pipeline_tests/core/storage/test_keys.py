"""Odd keys, on two real servers: what is accepted means one object in every request, the rest is refused."""

import unicodedata
import uuid
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from photo_pipeline.core.errors import ObjectKeyError
from photo_pipeline.core.storage.copying import copy_object, move_object
from photo_pipeline.core.storage.deletion import delete_object
from photo_pipeline.core.storage.files import download_file
from photo_pipeline.core.storage.keys import MAX_KEY_BYTES, checked_key, is_usable_key
from photo_pipeline.core.storage.links import presign_get, presign_put
from photo_pipeline.core.storage.listing import list_objects
from photo_pipeline_tests.core.storage.two_servers import Served, embedded, rclone, served
from photo_pipeline_tests.examples import examples
from photo_pipeline_tests.fault_proxy import FaultProxy

__all__ = ["embedded", "rclone", "served"]

_LETTERS = st.one_of(
    st.sampled_from("+%#?&=;:@!$'()*,[]{}<>|\\^`\"~ .éÉßẞİı日本\u0301\u200b\u202e😀👩‍🚀"),
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\ufffe\uffff"),
)
_SEGMENTS = st.text(_LETTERS, min_size=1, max_size=24).filter(lambda each: each not in (".", ".."))
KEYS = st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join)

LOOKALIKES = [
    unicodedata.normalize("NFC", "é.jpg"),
    unicodedata.normalize("NFD", "é.jpg"),
    "E\u0301.jpg",
    "a b.jpg",
    "a+b.jpg",
    "a%20b.jpg",
    "a%2520b.jpg",
    "a%2Bb.jpg",
    "a#b.jpg",
    "a?b.jpg",
    "a%3Fb.jpg",
    "a\\b.jpg",
    "Straße.jpg",
    "STRASSE.jpg",
    "strasse.jpg",
    "photo.JPG",
    "photo.jpg",
    "PHOTO.jpg",
    "photo.jpg ",
    " photo.jpg",
    "photo.jpg.",
    "...",
    "..photo.jpg",
    "😀.jpg",
    "👩\u200d🚀.jpg",
    "👩🚀.jpg",
    "a&amp;b.jpg",
    "a&b.jpg",
    "<a>.jpg",
    "'a\".jpg",
    "a;b=c,d@e:f.jpg",
    "~a.jpg",
    "%7Ea.jpg",
    "\u202egpj.a",
]


def round_trip(served: Served, key: str) -> None:
    store, data, beside = served.store, uuid.uuid4().bytes, f"{served.store.settings.prefix}/copies/"
    assert store.put_new(key, data, content_type="image/jpeg")
    if served.probe.honours_if_none_match:
        assert not store.put_new(key, b"again", content_type="image/jpeg")
    seen = store.head(key)
    assert (seen.key, seen.size, store.look(key).key, store.read(key)) == (key, 16, key, data)
    assert key in [each.key for each in list_objects(store, key)]
    copied = copy_object(store, key, f"{beside}{uuid.uuid4().hex}", probe=served.probe)
    target = f"{beside}{uuid.uuid4().hex}/{key.rpartition('/')[2]}"
    moved = move_object(store, copied.key, target, probe=served.probe)
    assert store.read(moved.copied.key) == data
    assert delete_object(store, seen).outcome == "deleted"
    assert (store.head(key), store.read(key)) == (None, None)
    store.delete(moved.copied.key)


@settings(max_examples=8, deadline=None)
@given(key=KEYS)
@example(key="é/é")
@example(key="a b+c%20d#e?f/…")
def test_any_accepted_key_means_the_same_object_to_every_request(served: Served, key: str) -> None:
    # rclone serve s3 keeps each segment as a file name, which has 255 bytes at most.
    assume(all(len(each.encode()) <= 255 for each in key.split("/")))
    round_trip(served, f"{served.key('odd')}/{checked_key(key)}")


@pytest.mark.slow
@examples(300, deadline=None)
@given(key=KEYS)
def test_any_of_many_accepted_keys_means_the_same_object(served: Served, key: str) -> None:
    # rclone serve s3 keeps each segment as a file name, which has 255 bytes at most.
    assume(all(len(each.encode()) <= 255 for each in key.split("/")))
    round_trip(served, f"{served.key('odd')}/{checked_key(key)}")


def test_keys_that_look_alike_are_as_many_objects(served: Served) -> None:
    folder = served.key("alike")
    bodies = {f"{folder}/{name}": name.encode() for name in LOOKALIKES}
    assert len(bodies) == len(LOOKALIKES)
    assert all(served.store.put_new(key, data, content_type="x/x") for key, data in bodies.items())
    assert {key: served.store.read(key) for key in bodies} == bodies
    listed = [each.key for each in list_objects(served.store, f"{folder}/")]
    assert sorted(listed) == sorted(bodies)


def test_an_object_beside_a_folder_of_its_name_is_another_one(embedded: Served) -> None:
    """Embedded only: rclone serve s3 keeps folders and cannot have both (the next test)."""
    name = embedded.key("dir")
    for key in (name, f"{name}/child", f"{name}/child/grandchild"):
        assert embedded.store.put_new(key, key.encode(), content_type="x/x")
    for key in (name, f"{name}/child", f"{name}/child/grandchild"):
        assert embedded.store.read(key) == key.encode()
    embedded.store.delete(name)
    assert embedded.store.read(f"{name}/child") is not None


@pytest.mark.parametrize("size", [MAX_KEY_BYTES - 1, MAX_KEY_BYTES])
def test_a_key_of_1024_bytes_is_one_like_any_other(embedded: Served, size: int) -> None:
    """Embedded only: rclone serve s3 keeps each segment as a file name of at most 255 bytes."""
    folder = f"{embedded.key('long')}/"
    key = folder + "é" * ((size - len(folder)) // 2)
    key += "x" * (size - len(key.encode()))
    assert len(key.encode()) == size
    seen = embedded.store
    assert seen.put_new(key, b"long", content_type="x/x")
    assert (seen.read(key), seen.head(key).key) == (b"long", key)
    assert [each.key for each in list_objects(seen, folder)] == [key]
    assert delete_object(seen, seen.head(key)).outcome == "deleted"


REFUSED = {
    "": "empty",
    "/a": "begins or ends with a slash",
    "a/": "begins or ends with a slash",
    "/": "begins or ends with a slash",
    "a//b": "empty segment",
    "a/./b": "segment . or ..",
    "a/../b": "segment . or ..",
    "..": "segment . or ..",
    ".": "segment . or ..",
    "../../etc/passwd": "segment . or ..",
    "a\nb": "control character",
    "a\r\nHost: evil": "control character",
    "a\0b": "control character",
    "a\x7fb": "control character",
    "a\x85b": "control character",
    "a\ufffeb": "control character",
    "\ud800": "lone surrogate",
    "x" * 1025: "1,025 bytes",
    "é" * 513: "1,026 bytes",
}


@pytest.mark.parametrize("key", REFUSED, ids=ascii)
def test_a_key_that_servers_would_read_differently_is_refused_and_said_why(key: str) -> None:
    with pytest.raises(ObjectKeyError, match=REFUSED[key]) as caught:
        checked_key(key)
    assert str(caught.value).isprintable()
    assert not is_usable_key(key)


@pytest.mark.parametrize("key", ["/a", "a//b", "a/../b", "a\nb", "x" * 1025], ids=ascii)
def test_a_refused_key_costs_no_request(embedded: Served, key: str, tmp_path: Path) -> None:
    with FaultProxy(embedded.url, lambda *_: None) as proxy:
        store = embedded.through(proxy.url)
        earlier = len(proxy.exchanges)
        for act in (
            lambda: store.put_new(key, b"x", content_type="x/x"),
            lambda: store.head(key),
            lambda: store.look(key),
            lambda: store.read(key),
            lambda: store.delete(key),
            lambda: copy_object(store, key, "b", probe=embedded.probe),
            lambda: copy_object(store, "b", key, probe=embedded.probe),
            lambda: download_file(store, key, tmp_path / "x"),
            lambda: presign_get(store, key),
            lambda: presign_put(store, key, sha256="0" * 64, content_type="x/x"),
        ):
            with pytest.raises(ObjectKeyError):
                act()
        assert len(proxy.exchanges) == earlier


def test_a_strangers_keys_do_not_hide_ours_from_a_listing(embedded: Served) -> None:
    """obstore's own listing fails on the first of them, and shows the last as another key."""
    folder, s3 = embedded.key("mixed"), embedded.store.s3
    strange = [f"{folder}//double", f"{folder}/../up", f"{folder}/tab\there", f"{folder}/marker/"]
    for key in strange:
        s3.put_object(Bucket=embedded.store.bucket, Key=key, Body=b"x")
    embedded.store.put_new(f"{folder}/ours.jpg", b"x", content_type="x/x")
    listed = [each.key for each in list_objects(embedded.store, folder)]
    assert sorted(listed) == sorted([*strange, f"{folder}/ours.jpg"])
    assert [key for key, _ in embedded.store.list(folder) if is_usable_key(key)] == [f"{folder}/ours.jpg"]
