"""JSON edited in place: what a path selects, and that nothing else of the document changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.sources.json_offsets import (
    JsonPath,
    JsonProblemError,
    json_strings,
    selected_strings,
)
from photo_pipeline.core.sources.text.document import replace_spans


def selected(text: str, *paths: str) -> list[str]:
    return [view.text for view in selected_strings(text, [JsonPath.parse(path) for path in paths])]


def edited(text: str, path: str, new: str) -> str:
    spans = [view.span() for view in selected_strings(text, [JsonPath.parse(path)])]
    return replace_spans(text, {span: span.spell(new) for span in spans})


DOCUMENT = '{"url":"u","a b":[{"url":"v","n":[1,"w"]},"x"],"it\'s":{"\\u0061":"y"}}'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.url", ["u"]),
        ("$..url", ["u", "v"]),
        ("$.*", ["u"]),
        ("$['a b'][*]", ["x"]),
        ('$["a b"][0].url', ["v"]),
        ("$['a b'][1]", ["x"]),
        ("$..[1]", ["w", "x"]),
        ("$..*", ["u", "v", "w", "x", "y"]),
        ("$['a b']..*", ["v", "w", "x"]),
        ("$['it\\'s'].a", ["y"]),
        ("$", []),
        ("$.missing", []),
        ("$.url.more", []),
    ],
)
def test_a_path_selects_strings(path: str, expected: list[str]) -> None:
    assert selected(DOCUMENT, path) == expected


def test_a_document_may_be_one_string() -> None:
    assert selected('  "\\/uploads\\/a.jpg" ', "$") == ["/uploads/a.jpg"]


@pytest.mark.parametrize(
    "path", ["url", "$url", "$.a[?(@.b)]", "$.a[-1]", "$.a[0:2]", "$.", "$['a'", "$['\\q']"]
)
def test_a_path_outside_the_subset_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSONPath"):
        JsonPath.parse(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":"x","b":{"c":1,"c":2}}', "character 24, the name 'c' stands twice"),
        ('{"a":"x","\\u0061":"y"}', "the name 'a' stands twice"),
        ('{"a":"x",}', "a name in quotes is expected"),
        ('["x" "y"]', "a comma or the end"),
        ('["x"]]', "something follows the document"),
        ('["x', "a string does not end"),
        ('["\t"]', "a string does not end"),
        ("['x']", "a value is expected"),
        ("[NaN]", "a value is expected"),
        ("[01]", "a value is expected"),
        ("", "a value is expected"),
        ("[" * 5000, "nested deeper than 1000 levels"),
    ],
)  # fmt: skip
def test_what_is_no_plain_json_is_not_read_at_all(text: str, reason: str) -> None:
    with pytest.raises(JsonProblemError, match=reason):
        json_strings(text)


def test_numbers_of_any_size_spaces_and_order_stay_as_they_are() -> None:
    text = '{ "n":1e400,\n"big":123456789012345678901234567890.10, "url" : "a" ,"z":-0.0 }'
    assert edited(text, "$.url", "N") == text.replace('"a"', '"N"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["\\/a\\/b"]', '["https:\\/\\/c\\/x"]'),
        ('["/a/b"]', '["https://c/x"]'),
        ('["b","\\/c"]', '["https:\\/\\/c\\/x","https:\\/\\/c\\/x"]'),
        ('["\\u002fa"]', '["https://c/x"]'),
    ],
)
def test_a_new_url_is_escaped_as_the_document_escapes(text: str, expected: str) -> None:
    assert edited(text, "$[*]", "https://c/x") == expected


TEXTS = st.text(max_size=6)
VALUES = st.recursive(
    st.one_of(
        TEXTS, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[Any, str]:
    """A value, and a spelling of it as JSON."""
    value = draw(VALUES)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    return value, text.replace("/", "\\/") if draw(st.booleans()) else text


def strings_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in strings_of(each)]


def replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: replaced(each, old, new) for name, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, old, new) for each in value]
    return new if value == old and isinstance(value, str) else value


@given(spellings())
def test_every_string_is_found_where_it_stands(pair: tuple[Any, str]) -> None:
    value, text = pair
    found = [json.loads(f'"{text[s.start : s.end]}"') for s in json_strings(text)]
    assert found == strings_of(value)


@given(spellings(), st.data())
def test_replacing_one_string_changes_that_string_and_nothing_else(
    pair: tuple[Any, str], data: st.DataObject
) -> None:
    value, text = pair
    views = selected_strings(text, [JsonPath.parse("$..*"), JsonPath.parse("$")])
    if not views:
        return
    old = data.draw(st.sampled_from([view.text for view in views]))
    spans = [view.span() for view in views if view.text == old]
    new = "https://cdn.example/é.jpg"
    changed = replace_spans(text, {span: span.spell(new) for span in spans})
    assert json.loads(changed) == replaced(value, old, new)
    for span in spans:  # From the first on: what stands before a span is as it was by then.
        end = span.start + len(span.spell(new))
        assert changed[span.start : end] == span.spell(new)
        changed = changed[: span.start] + span.spelled + changed[end:]
    assert changed == text


@given(st.text(st.sampled_from('{}[]",:\\u0019aetrufnls. -+E\n'), max_size=14))
def test_what_is_accepted_is_json_for_the_standard_library_too(text: str) -> None:
    try:
        json_strings(text)
    except JsonProblemError:
        return
    json.loads(text)
