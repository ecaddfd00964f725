"""Comparing what is there with what is wanted, on documents of any shape."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.provisioning.difference import differences, exactly, merged, pruned

_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "a", "b"]))
_LISTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)
_NAMES = st.sampled_from(["p", "q", "r", "s"])
DOCUMENTS = st.recursive(
    st.dictionaries(_NAMES, st.one_of(_LEAVES, _LISTS), max_size=4),
    lambda inner: st.dictionaries(_NAMES, st.one_of(_LEAVES, _LISTS, inner), max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS, DOCUMENTS)
def test_what_was_merged_differs_in_nothing(actual: dict[str, Any], desired: dict[str, Any]) -> None:
    assert differences(merged(actual, desired), desired) == ()


@given(DOCUMENTS, DOCUMENTS)
def test_merging_keeps_what_is_not_asked_about(actual: dict[str, Any], desired: dict[str, Any]) -> None:
    made = merged(actual, desired)
    assert {name: made[name] for name in actual if name not in desired} == {
        name: each for name, each in actual.items() if name not in desired
    }


@given(DOCUMENTS)
def test_a_document_differs_from_itself_in_nothing(document: dict[str, Any]) -> None:
    assert differences(document, document) == ()


@given(DOCUMENTS, DOCUMENTS)
def test_exactly_finds_what_was_added(wanted: dict[str, Any], actual: dict[str, Any]) -> None:
    strict = exactly(actual, wanted)
    found = differences(actual, strict)
    assert (found == ()) == (differences(actual, wanted) == () and differences(pruned(wanted), actual) == ())


def test_lists_are_compared_as_aws_gives_them_back() -> None:
    assert differences({"Action": "a"}, {"Action": ["a"]}) == ()
    assert differences({"Items": ["b", "a"]}, {"Items": ["a", "b"]}) == ()
    assert differences({"Items": ["a"]}, {"Items": []})[0].path == "Items"
    assert differences({}, {"Items": [], "Days": None}) == ()


def test_a_difference_names_its_place_and_both_values() -> None:
    (found,) = differences({"rule": {"Days": 9, "Mine": 1}}, {"rule": {"Days": 1}})
    assert (found.path, found.actual, found.desired) == ("rule.Days", 9, 1)
