"""What CloudFront is asked to forget: spelled its way, each path once, nothing that was not asked for."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.delivery.invalidation_plan import MAX_PATHS, MAX_WILDCARDS, plan_invalidation
from photo_pipeline.core.delivery.urls import UrlScheme

SCHEME = UrlScheme("https://cdn.example", "photos", "originals")
SHA = "ab" * 32
IMMUTABLE = SCHEME.variant_key(SHA, "0123456789ab", "full", "jpg")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("avatars/7.jpg", "/avatars/7.jpg"),
        ("/avatars/7.jpg", "/avatars/7.jpg"),
        ("https://cdn.example/avatars/7.jpg", "/avatars/7.jpg"),
        ("https://cdn.example/", "/"),
        ("avatars/*", "/avatars/*"),
        ("/*", "/*"),
        ("avatars/7*", "/avatars/7*"),
        ("a b.jpg", "/a%20b.jpg"),
        ("https://cdn.example/a%20b.jpg", "/a%20b.jpg"),
        ("ä.jpg", "/%C3%A4.jpg"),
        ("a\u0308.jpg", "/a%CC%88.jpg"),
        ("😀.jpg", "/%F0%9F%98%80.jpg"),
        ("100%.jpg", "/100%25.jpg"),
        ('<>"#{}|\\^~[]`?', "/%3C%3E%22%23%7B%7D%7C%5C%5E%7E%5B%5D%60%3F"),
        ("$-_.+!'(),&;=:@", "/$-_.+!'(),&;=:@"),
    ],
)
def test_a_path_is_spelled_as_cloudfront_wants_it(asked: str, sent: str) -> None:
    plan = plan_invalidation(SCHEME, [asked])
    assert (plan.paths, plan.refused) == ((sent,), ())


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (IMMUTABLE, "its name is made of its content"),
        (f"https://cdn.example/{IMMUTABLE}", "its name is made of its content"),
        (IMMUTABLE.replace("full.jpg", "full.auto"), "its name is made of its content"),
        ("photos/*", "its name is made of its content"),
        ("photos/ab/*", "its name is made of its content"),
        (f"photos/ab/{SHA[:9]}*", "its name is made of its content"),
        (f"photos/ab/{SHA}/*", "its name is made of its content"),
        (f"photos/ab/{SHA}/0123/full*", "its name is made of its content"),
        ("originals/ab/x.jpg", "originals are never served"),
        ("originals/*", "originals are never served"),
        ("a*b.jpg", "as the last character only"),
        ("a**", "as the last character only"),
        ("https://cdn.example/a%2A*", "as the last character only"),
        ("https://elsewhere.example/a.jpg", "it is not on this CDN"),
        ("https://cdn.example/a.jpg?v=2", "leave the part from ?"),
        ("a" * 4001, "more than 4,000 characters"),
        ("ä" * 700, "more than 4,000 characters"),
    ],
)
def test_what_needs_no_invalidation_or_cannot_be_one_is_left_out_with_the_reason(
    asked: str, reason: str
) -> None:
    plan = plan_invalidation(SCHEME, [asked, "avatars/7.jpg"])
    assert plan.paths == ("/avatars/7.jpg",)
    (refused,) = plan.refused
    assert reason in refused.reason


@pytest.mark.parametrize(
    "asked",
    [
        "photos*",
        "photos/avatars/*",
        "photos/zz/*",
        "photos/abc/*",
        f"photos/cd/{SHA[:9]}*",
        "/*",
        "photos/x.jpg",
    ],
)
def test_what_is_not_only_immutable_is_sent(asked: str) -> None:
    assert plan_invalidation(SCHEME, [asked]).refused == ()


def test_force_sends_what_needs_no_invalidation() -> None:
    plan = plan_invalidation(SCHEME, [IMMUTABLE, "photos/*"], force=True)
    assert (plan.paths, plan.repeated, plan.refused) == (("/photos/*",), 1, ())


def test_each_path_is_sent_once_and_none_that_a_wildcard_covers() -> None:
    asked = ["a/1.jpg", "/a/1.jpg", "https://cdn.example/a/1.jpg", "b/1.jpg", "b/*", "b/c/*", "b/*"]
    plan = plan_invalidation(SCHEME, asked)
    assert plan.paths == ("/b/*", "/a/1.jpg")
    assert (plan.asked, plan.repeated, plan.wildcards) == (7, 5, 1)


def test_an_auto_path_takes_the_files_behind_it_along() -> None:
    plan = plan_invalidation(SCHEME, ["banners/top.auto", "banners/top.jpg"])
    assert sorted(plan.paths) == [f"/banners/top.{each}" for each in ("auto", "avif", "jpg", "webp")]


BUCKET = ["a/1.jpg", "a/2.jpg", "a/b/3.jpg", "c/4.jpg", "c/5.jpg", "c/6.jpg", "d/7.jpg", IMMUTABLE]


def below(prefix: str) -> list[str]:
    return [key for key in BUCKET if key.startswith(prefix)]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (["a/1.jpg", "a/2.jpg", "a/b/3.jpg"], ["/a/*"]),
        (["a/1.jpg", "a/2.jpg"], ["/a/1.jpg", "/a/2.jpg"]),  # a/b/3.jpg was not asked for
        (["c/4.jpg", "c/5.jpg"], ["/c/4.jpg", "/c/5.jpg"]),
        (["c/4.jpg", "c/5.jpg", "c/6.jpg", "d/7.jpg"], ["/c/*", "/d/7.jpg"]),  # one for one is no gain
        (["c/4.jpg", "c/5.jpg", "c/6.jpg", "c/gone.jpg"], ["/c/*"]),
        (["x/gone.jpg", "x/gone too.jpg"], ["/x/*"]),
        ([key for key in BUCKET if key != IMMUTABLE], ["/a/*", "/c/*", "/d/7.jpg"]),
    ],
)
def test_a_wildcard_is_made_where_it_covers_only_what_is_asked(asked: list[str], sent: list[str]) -> None:
    plan = plan_invalidation(SCHEME, asked, keys_below=below)
    assert list(plan.paths) == sent
    assert plan.collapsed == len(asked) - sum(not path.endswith("*") for path in sent)


KEYS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(bucket=st.sets(KEYS), asked=st.lists(st.one_of(KEYS, KEYS.map(lambda key: f"{key}*"))))
def test_what_is_sent_covers_all_that_is_asked_and_nothing_else(bucket: set[str], asked: list[str]) -> None:
    plan = plan_invalidation(
        SCHEME, asked, keys_below=lambda prefix: [key for key in bucket if key.startswith(prefix)]
    )
    sent = [unquote(path)[1:] for path in plan.paths]

    def covered(paths: list[str], key: str) -> bool:
        return any(key.startswith(path[:-1]) if path.endswith("*") else key == path for path in paths)

    named = {path for path in asked if not path.endswith("*")}
    assert all(covered(sent, key) for key in named)
    assert {key for key in bucket if covered(sent, key)} == {key for key in bucket if covered(asked, key)}
    assert len(plan.paths) <= len(set(asked))
    assert plan.asked == len(asked)


def test_requests_keep_within_cloudfronts_limits() -> None:
    asked = [f"k/{number}.jpg" for number in range(7_000)] + [f"w{number:02}/*" for number in range(40)]
    requests = list(plan_invalidation(SCHEME, asked).requests())
    assert sorted(path for request in requests for path in request) == sorted(f"/{path}" for path in asked)
    assert all(len(request) <= MAX_PATHS for request in requests)
    assert all(sum(path.endswith("*") for path in request) <= MAX_WILDCARDS for request in requests)
    assert len(requests) == 3
