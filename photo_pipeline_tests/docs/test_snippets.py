"""What the documentation tells people to copy does what it says: its PHP, Ruby and Python, really run.

The other languages' pieces are run where their files are tested (`browser/test_picture.py`,
`core/delivery/test_application_code.py`).
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline_tests.docs.snippets import snippet, snippets

SHA = "ab" + "0123456789" * 6 + "01"
STEM = f"https://cdn.example.com/photos/ab/{SHA}/9f3c2d/full"
OLD = "/uploads/cats/7.jpg"
HOSTILE = "\"><script>alert(1)</script> 'Tom' & Jerry"

Tags = list[tuple[str, dict[str, str | None]]]
Show = Callable[..., Tags]

PHP = """
echo photo_picture(...json_decode(stream_get_contents(STDIN), true));
"""
WORDPRESS = """
$filters = [];
function add_filter(string $name, callable $filter): void { global $filters; $filters[$name] = $filter; }
"""
RUBY = """
require "erb"; require "json"
class String; def html_safe = self; end  # ActiveSupport's mark; what is in it stays
"""
DJANGO = """
import json, sys
import django
from django.conf import settings

media, storages = sys.argv[1], {}
exec(sys.argv[2], storages)
settings.configure(
    INSTALLED_APPS=["django.contrib.staticfiles"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MEDIA_ROOT=media, MEDIA_URL="/media/", STORAGES=storages["STORAGES"],
)
django.setup()
from django.core.files.storage import default_storage
from django.db import connection, models

both = {}
exec(sys.argv[3], both)

class Photo(models.Model):
    image = models.ImageField(storage=both["BothStorage"](), max_length=100)
    class Meta:
        app_label = "shop"

with connection.schema_editor() as editor:
    editor.create_model(Photo)
urls = []
for value in sys.argv[4:]:
    photo = Photo.objects.create(image=value)
    urls.append([Photo.objects.get(pk=photo.pk).image.url, default_storage.url(value)])
with Photo.objects.first().image.open() as file:
    print(json.dumps([urls, file.read().decode()]))
"""
RUBY_CALL = """
include PhotoHelper
url, alt, attributes = JSON.parse($stdin.read)
print photo_picture(url, alt: alt, **attributes.transform_keys(&:to_sym))
"""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: Tags = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(markup: str) -> Tags:
    """Return the elements of the markup with their attributes, as a browser would read them."""
    parser = _Parser()
    parser.feed(markup)
    parser.close()
    return parser.found


def run(program: str, arguments: list[str], code: str, given: str, folder: Path) -> str:
    """Run the code by the program; skip where that is not installed."""
    installed = shutil.which(program)
    if installed is None:
        pytest.skip(f"no `{program}` on the PATH: apt-get install php-cli ruby")
    script = folder / "script"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [installed, *arguments, str(script)],
        input=given,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(params=["php", "ruby"])
def show(request: pytest.FixtureRequest, tmp_path: Path) -> Show:
    """Return a function that shows a photo by the documentation's own function in the language."""
    code = snippet("helpers.md", request.param, "photo_picture(")

    def shown(url: str, alt: str, **attributes: Any) -> Tags:
        given = json.dumps([url, alt, attributes])
        if request.param == "php":
            strict = ["-d", "error_reporting=-1", "-d", "display_errors=stderr"]
            return tags(run("php", strict, f"<?php declare(strict_types=1);\n{code}\n{PHP}", given, tmp_path))
        return tags(run("ruby", ["-W"], f"{RUBY}\n{code}\n{RUBY_CALL}", given, tmp_path))

    return shown


@pytest.mark.slow
def test_a_new_row_becomes_a_picture_in_php_and_ruby(show: Show) -> None:
    shown = show(f"{STEM}.webp", "A cat", **{"class": "card", "loading": "eager"})
    assert shown == [
        ("picture", {}),
        ("source", {"type": "image/avif", "srcset": f"{STEM}.avif"}),
        ("source", {"type": "image/webp", "srcset": f"{STEM}.webp"}),
        (
            "img",
            {"src": f"{STEM}.jpg", "alt": "A cat", "decoding": "async", "class": "card", "loading": "eager"},
        ),
    ]


@pytest.mark.slow
def test_an_old_row_stays_an_image_and_nothing_gets_out_of_its_attribute(show: Show) -> None:
    ((tag, attributes),) = show(OLD, HOSTILE)
    assert (tag, attributes["src"], attributes["alt"]) == ("img", OLD, HOSTILE)
    hostile = f'/uploads/"><script>alert(1)</script>/{SHA}/r/full.jpg'
    assert [name for name, _ in show(hostile, HOSTILE)] == ["picture", "source", "source", "img"]
    ((tag, attributes),) = show(f"{STEM}.jpg\n<script>", "")
    assert (tag, attributes["src"]) == ("img", f"{STEM}.jpg\n<script>")


@pytest.mark.slow
def test_wordpress_wraps_images_that_are_in_posts_already(tmp_path: Path) -> None:
    code = snippet("helpers.md", "php", "wp_content_img_tag")
    call = "echo $filters['wp_content_img_tag'](stream_get_contents(STDIN));"

    def filtered(img: str) -> str:
        return run("php", [], f"<?php\n{WORDPRESS}\n{code}\n{call}", img, tmp_path)

    new = f'<img class="wp-image-7" src="{STEM}.jpg" alt="A cat" />'
    assert [name for name, _ in tags(filtered(new))] == ["picture", "source", "source", "img"]
    assert new in filtered(new)
    old = f'<img src="{OLD}" alt="A cat" />'
    assert filtered(old) == old


@pytest.mark.slow
@pytest.mark.parametrize("page", ["guides/laravel.md"])
def test_a_guides_php_is_php(page: str, tmp_path: Path) -> None:
    (code,) = snippets(page, "php")
    printed = run("php", [], f"<?php echo json_encode([\n{code}\n]);", "", tmp_path)
    assert json.loads(printed)["s3"]["driver"] == "s3"


@pytest.mark.slow
def test_djangos_imagefield_shows_old_and_new_rows_by_the_guides_storage(tmp_path: Path) -> None:
    pytest.importorskip("storages", reason="django-storages is not installed: pip install django-storages")
    (tmp_path / "items").mkdir()
    (tmp_path / "items/7.jpg").write_text("the old photo", encoding="utf-8")
    finished = snippet("guides/django.md", "python", "STORAGES = {")
    meanwhile = snippet("guides/django.md", "python", "class BothStorage")
    key = f"photos/ab/{SHA}/9f3c2d/full.jpg"
    arguments = [str(tmp_path), finished, meanwhile, "items/7.jpg", key]
    done = subprocess.run(
        [sys.executable, "-c", DJANGO, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    urls, content = json.loads(done.stdout)
    cdn = f"https://cdn.example.com/{key}"
    assert urls == [["/media/items/7.jpg", "https://cdn.example.com/items/7.jpg"], [cdn, cdn]]
    assert content == "the old photo"
