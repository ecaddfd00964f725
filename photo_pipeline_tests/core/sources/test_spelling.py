"""Every way an application spells the path of a photo, and every way out of the root that is refused."""

import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photo_pipeline.core.sources.fields.path import PathField
from photo_pipeline.core.sources.fields.url import UrlField
from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled, path_key
from photo_pipeline_tests.examples import examples

ROOT = RootSpelling(
    "uploads",
    Path("/srv/shop/public/uploads"),
    ("/uploads/", "https://shop.example/uploads/", "//old.example/media/", "/uploads/legacy/"),
)
URL = UrlField(kind="url", column="url", root="uploads")
PATH = PathField(kind="path", column="path", root="uploads")
CAFE_NFC = unicodedata.normalize("NFC", "caf\u00e9.jpg")
CAFE_NFD = unicodedata.normalize("NFD", CAFE_NFC)

# spelling: the file that it means first, as a `url` field and as a `path` field
SPELLINGS: dict[str, tuple[str, str]] = {
    "a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "./a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "a//b.jpg": ("a/b.jpg", "a/b.jpg"),
    "a/./b.jpg": ("a/b.jpg", "a/b.jpg"),
    "  a/b.jpg ": ("a/b.jpg", "a/b.jpg"),
    "uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "/uploads//a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "/uploads/legacy/b.jpg": ("b.jpg", "b.jpg"),
    "/srv/shop/public/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "srv/shop/public/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "https://shop.example/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "http://shop.example/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "//shop.example/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "HTTPS://SHOP.Example/uploads/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "https://old.example/media/a/b.jpg": ("a/b.jpg", "a/b.jpg"),
    "\\uploads\\a\\b.jpg": ("a/b.jpg", "a/b.jpg"),
    "a\\b.jpg": ("a/b.jpg", "a/b.jpg"),
    "uploads\\a\\b.jpg": ("a/b.jpg", "a/b.jpg"),
    "https:\\\\shop.example\\uploads\\a\\b.jpg": ("a/b.jpg", "a/b.jpg"),
    "/uploads/my photo.jpg": ("my photo.jpg", "my photo.jpg"),
    "/uploads/my%20photo.jpg": ("my photo.jpg", "my%20photo.jpg"),
    "/uploads/a%2Fb.jpg": ("a/b.jpg", "a%2Fb.jpg"),
    "/uploads/my%2520photo.jpg": ("my%20photo.jpg", "my%2520photo.jpg"),
    "/uploads/100%.jpg": ("100%.jpg", "100%.jpg"),
    "/uploads/100%25.jpg": ("100%.jpg", "100%25.jpg"),
    "/uploads/a+b.jpg": ("a+b.jpg", "a+b.jpg"),
    "/uploads/a.jpg?v=3": ("a.jpg", "a.jpg?v=3"),
    "/uploads/a.jpg#top": ("a.jpg", "a.jpg#top"),
    "/uploads/a.jpg?next=https://x.example/#y": ("a.jpg", "a.jpg?next=https:/x.example/#y"),
    f"/uploads/{CAFE_NFC}": (CAFE_NFC, CAFE_NFC),
    f"/uploads/{CAFE_NFD}": (CAFE_NFD, CAFE_NFD),
    "/uploads/caf%C3%A9.jpg": (CAFE_NFC, "caf%C3%A9.jpg"),
    "/uploads/caf%E9.jpg": ("caf%E9.jpg", "caf%E9.jpg"),
    "/uploads/a..b.jpg": ("a..b.jpg", "a..b.jpg"),
    "/uploads/...jpg": ("...jpg", "...jpg"),
    "/uploads/.hidden.jpg": (".hidden.jpg", ".hidden.jpg"),
}

REFUSED = {
    "": "names no file",
    "/uploads/": "names no file",
    ".": "names no file",
    "../a.jpg": "'..'",
    "/uploads/../../etc/passwd": "'..'",
    "/uploads/a/../b.jpg": "'..'",
    "..": "'..'",
    "..\\a.jpg": "'..'",
    "/uploads\\..\\..\\a.jpg": "'..'",
    "%2e%2e/a.jpg": "'..'",
    "/uploads/%2E%2e/a.jpg": "'..'",
    "/uploads/..%2Fa.jpg": "'..'",
    "/uploads/..%5Ca.jpg": "'..'",
    "%2e%2e%2fa.jpg": "'..'",
    "https://shop.example/uploads/../secret.jpg": "'..'",
    "https://shop.example/uploads/%2e%2e/secret.jpg": "'..'",
    "/etc/passwd": "outside the root",
    "/uploads2/a.jpg": "outside the root",
    "\\etc\\passwd": "outside the root",
    "%2Fetc%2Fpasswd": "outside the root",
    "https://elsewhere.example/uploads/a.jpg": "no url_prefixes",
    "https://shop.example.evil.example/uploads/a.jpg": "no url_prefixes",
    "https://shop.example@evil.example/uploads/a.jpg": "no url_prefixes",
    "https://shop.example/other/a.jpg": "no url_prefixes",
    "//elsewhere.example/a.jpg": "no url_prefixes",
    "\\\\server\\share\\a.jpg": "no url_prefixes",
    "data:image/png;base64,iVBORw0KGgo=": "no url_prefixes",
    "javascript:alert(1)": "no url_prefixes",
    "file:///etc/passwd": "no url_prefixes",
    "s3://bucket/uploads/a.jpg": "no url_prefixes",
    "a\x00.jpg": "control characters",
    "/uploads/a\n.jpg": "control characters",
    "/uploads/\x7f.jpg": "control characters",
}


def first(meaning: Spelled | Refused) -> str:
    assert isinstance(meaning, Spelled), meaning
    return meaning.candidates[0]


@pytest.mark.parametrize("value", SPELLINGS)
def test_a_spelling_means_its_file_first(value: str) -> None:
    as_url, as_path = SPELLINGS[value]
    assert first(URL.interpret(value, ROOT)) == as_url
    assert first(PATH.interpret(value, ROOT)) == as_path


@pytest.mark.parametrize("value", REFUSED)
def test_what_does_not_stay_inside_the_root_is_refused_with_the_reason(value: str) -> None:
    for field in (URL, PATH):
        meaning = field.interpret(value, ROOT)
        assert isinstance(meaning, Refused), meaning
        assert REFUSED[value] in meaning.reason


@pytest.mark.parametrize(
    "value", ["/uploads/100%25.jpg", "/uploads/a.jpg?v=3", "/uploads/a\\b.jpg", "a#1.jpg"]
)
def test_the_literal_name_stays_among_the_candidates(value: str) -> None:
    meaning = URL.interpret(value, ROOT)
    assert isinstance(meaning, Spelled)
    assert value.removeprefix("/uploads/") in meaning.candidates or "a/b.jpg" in meaning.candidates


def test_an_encoded_control_character_is_only_ever_a_literal_name() -> None:
    meaning = URL.interpret("/uploads/a%00b.jpg", ROOT)
    assert meaning == Spelled(("a%00b.jpg",))


def test_a_folder_called_like_the_prefix_is_tried_too() -> None:
    meaning = URL.interpret("uploads/a.jpg", ROOT)
    assert meaning == Spelled(("a.jpg", "uploads/a.jpg"))


def test_both_unicode_forms_are_compared_alike() -> None:
    assert CAFE_NFC != CAFE_NFD
    assert path_key(CAFE_NFC) == path_key(CAFE_NFD)


SEGMENT_PARTS = [
    "..",
    ".",
    "/",
    "\\",
    "%",
    "%2e",
    "%2F",
    "%5c",
    "?",
    "#",
    ":",
    "//",
    "uploads",
    "https://",
    "é",
]
HOSTILE = st.lists(st.one_of(st.sampled_from(SEGMENT_PARTS), st.text(max_size=5)), max_size=12).map("".join)


@examples(400)
@given(value=st.one_of(st.text(max_size=60), HOSTILE, HOSTILE.map(lambda text: f"/uploads/{text}")))
@example("/uploads/\udc80")
@example("%FF%FE/\ud800")
def test_no_text_whatever_escapes_the_root_or_raises(value: str) -> None:
    for field in (URL, PATH):
        meaning = field.interpret(value, ROOT)
        if isinstance(meaning, Refused):
            assert meaning.reason
            continue
        assert meaning.candidates
        for candidate in meaning.candidates:
            assert candidate
            assert not candidate.startswith("/")
            assert "\x00" not in candidate
            assert ".." not in PurePosixPath(candidate).parts


def test_a_colon_in_a_relative_name_is_no_scheme() -> None:
    assert PATH.interpret("ab:cd.jpg", ROOT) == Spelled(("ab:cd.jpg",))
    assert isinstance(PATH.interpret("ab://cd.jpg", ROOT), Refused)


# Names as a Linux disk may have them; a relative reference with a colon in front reads as a URL scheme.
NAME = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\\x7f"), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and name == name.strip() and "%2e" not in name.lower())
RELATIVE = (
    st.lists(NAME, min_size=1, max_size=3)
    .map("/".join)
    .filter(lambda path: ".." not in path and "%" not in path)
)


@examples(200)
@given(path=RELATIVE)
@example("uploads/a.jpg")
@example("legacy/a.jpg")
@example("a?b#c.jpg")
@example("a;b=c&d.jpg")
def test_any_path_is_found_again_in_each_of_its_spellings(path: str) -> None:
    encoded = quote(path)
    literal = [f"/uploads/{path}", f"/srv/shop/public/uploads/{path}", f"uploads/{path}"]
    urls = [f"{scheme}//shop.example/uploads/{encoded}" for scheme in ("https:", "http:", "HTTP:", "")]
    urls += [f"/uploads/{encoded}", f"/uploads/{encoded}?width=300#top", encoded]
    windows = [spelling.replace("/", "\\") for spelling in literal]
    nfd = [unicodedata.normalize("NFD", literal[0])]
    for field, spellings in ((URL, [*urls, *literal, *windows, *nfd]), (PATH, [*literal, *windows, *nfd])):
        for value in spellings:
            meaning = field.interpret(value, ROOT)
            assert isinstance(meaning, Spelled), (value, meaning)
            assert path_key(path) in {path_key(each) for each in meaning.candidates}, value
