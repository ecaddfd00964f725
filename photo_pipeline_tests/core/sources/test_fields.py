"""The field kinds as a mapping declares them: what is understood, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from photo_pipeline.core.sources.fields.computed import ComputedField
from photo_pipeline.core.sources.mapping import Source

DOCS = Path(__file__).resolve().parents[3] / "docs" / "fields.md"


def test_the_example_in_the_documentation_is_a_mapping() -> None:
    example = yaml.safe_load(DOCS.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0])
    source = Source.model_validate(
        {"name": "posts", "table": "posts", "key": ["id"], "rewrite": {"mode": "url"}} | example
    )
    assert [field.label for field in source.fields][3:] == [
        *("gallery_thumbs", "blocks", "body", "computed", "meta_value"),
    ]
    assert source.written_columns == ("cover_url", "avatar", "gallery", "blocks", "body")
    assert source.read_columns[-2:] == ("key", "meta_value")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(9) %}{{ key }}{% endfor %}", "For is not allowed"),
        ("{{ key.__class__ }}", "Getattr is not allowed"),
        ("{{ key * 1000000 }}", "Mul is not allowed"),
        ("{{ range(9) }}{{ key }}", "Call is not allowed"),
        ("{{ key | center(100000) }}", "filter 'center'"),
        ("{{ key", "unexpected end of template"),
        ("items/1.jpg", "names no column"),
    ],
)
def test_a_template_may_only_read_cut_and_join_columns(template: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ComputedField(kind="computed", template=template, root="uploads")


def test_rails_template_reads_its_column() -> None:
    field = ComputedField(
        kind="computed", template="{{ key[0:2] }}/{{ key[2:4] }}/{{ key }}", root="uploads", role="primary"
    )
    assert field.reads == ("key",)
    assert [span.url for span in field.find({"key": "abcdef"}, lambda _: True).spans] == ["ab/cd/abcdef"]
    assert field.find({"key": None}, lambda _: True).spans == ()
    assert field.find({"key": 7}, lambda _: True).problem is not None


TEXT = {"kind": "text", "column": "body", "root": "uploads"}


@pytest.mark.parametrize(
    ("fields", "changes", "reason"),
    [
        (
            [TEXT],
            {"rewrite": {"mode": "url", "write_back": {"w": "width"}}},
            "needs a field that holds one photo",
        ),
        ([TEXT, TEXT], {}, "two fields are called 'body'"),
        ([TEXT, TEXT | {"kind": "url", "name": "x"}], {}, "'body' is written twice"),
        ([TEXT | {"role": "primary"}], {}, "duplicate"),
        ([TEXT | {"size_suffix": "-small"}], {}, "must have {width} once"),
        ([TEXT | {"kind": "json", "paths": ["url"]}], {}, "must begin with"),
        ([TEXT], {"protect": ["body"]}, "is protected"),
    ],
)
def test_a_mapping_that_could_do_harm_is_refused(
    fields: list[dict[str, Any]], changes: dict[str, Any], reason: str
) -> None:
    plain = {"name": "posts", "table": "posts", "key": ["id"], "rewrite": {"mode": "url"}}
    with pytest.raises(ValidationError, match=reason):
        Source.model_validate(plain | {"fields": fields} | changes)
