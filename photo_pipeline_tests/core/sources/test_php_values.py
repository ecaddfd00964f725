"""PHP's serialized format: what is found in it, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.sources.json_offsets import JsonPath
from photo_pipeline.core.sources.php_values import PhpProblemError, selected_php_strings

# `_wp_attachment_metadata` of WordPress 6, shortened.
WORDPRESS = (
    'a:5:{s:5:"width";i:1600;s:4:"file";s:16:"2024/05/übe.jpg";s:8:"filesize";d:1.5;s:5:"sizes";a:2:{'
    's:6:"medium";a:2:{s:4:"file";s:13:"a-300x200.jpg";s:5:"width";i:300;}'
    's:5:"large";N;}s:3:"obj";O:8:"stdClass":1:{s:3:"url";s:1:"x";}}'
)


def selected(text: str, *paths: str) -> list[str]:
    return [view.text for view in selected_php_strings(text, [JsonPath.parse(path) for path in paths])]


def test_paths_select_strings_of_arrays_and_objects_counting_bytes() -> None:
    assert selected(WORDPRESS, "$.file") == ["2024/05/übe.jpg"]
    assert selected(WORDPRESS, "$.sizes.*.file", "$.obj.url") == ["a-300x200.jpg", "x"]


@pytest.mark.parametrize(
    "text",
    ['s:3:"ab";', 's:1:"ab";', 'a:2:{i:0;s:1:"a";}', 'a:1:{i:0;s:1:"a";}x', "", "plain", "a:1:{", "a" * 10],
)
def test_what_is_not_the_format_is_refused(text: str) -> None:
    with pytest.raises(PhpProblemError, match="not PHP's serialized format: at byte"):
        selected(text, "$..*")


def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack() -> None:
    with pytest.raises(PhpProblemError):
        selected("a:1:{i:0;" * 5000, "$..*")


def serialized(value: Any) -> str:
    if isinstance(value, str):
        return f's:{len(value.encode())}:"{value}";'
    if isinstance(value, bool | int):
        return f"i:{int(value)};"
    if value is None:
        return "N;"
    return f"a:{len(value)}:{{{''.join(serialized(k) + serialized(v) for k, v in value.items())}}}"


VALUES = st.recursive(
    st.one_of(st.text(max_size=6), st.integers(), st.none()),
    lambda inner: st.dictionaries(
        st.one_of(st.text("abc", max_size=3), st.integers(0, 9)), inner, max_size=3
    ),
    max_leaves=10,
)


def strings_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in strings_of(each)]
    return [value] if isinstance(value, str) else []


@given(VALUES)
def test_every_string_is_found_where_it_stands(value: Any) -> None:
    text = serialized(value)
    views = selected_php_strings(text, [JsonPath.parse("$"), JsonPath.parse("$..*")])
    assert [view.text for view in views] == strings_of(value)
    assert all(view.span().spelled == view.text for view in views)
