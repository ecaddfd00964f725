"""The files that an application copies: what they say for each spelling, in Python, templates and JavaScript.

That real browsers show the markup, and the CDN has what it names, is `browser/test_picture.py`.
"""

import ast
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import django
import jinja2
import pytest
import yaml
from django.conf import settings as django_settings
from django.template import Context, Engine
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.core.delivery.application_code import APPLICATION_CODE, helper_files
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.spelling import RootSpelling, Spelled

SHA = "ab" + "0123456789" * 6 + "01"
STEM = f"photos/ab/{SHA}/9f3c2d"
CDN = "https://cdn.shop.example"
PIXEL = "data:image/webp;base64,UklGRg=="
URLS = ["/uploads/", "https://shop.example/uploads/"]

SHOWN = [
    # Old rows: every spelling leads to where the web server has the file.
    ("/uploads/cats/7.jpg", "/uploads/cats/7.jpg"),
    ("uploads/cats/7.jpg", "/uploads/cats/7.jpg"),
    ("cats/7.jpg", "/uploads/cats/7.jpg"),
    ("./cats/7.jpg", "/uploads/cats/7.jpg"),
    ("cats\\7.jpg", "/uploads/cats/7.jpg"),
    ("/srv/shop/uploads/cats/7.jpg", "/uploads/cats/7.jpg"),
    ("/uploads/größe 7.jpg", "/uploads/gr%C3%B6%C3%9Fe%207.jpg"),
    ("/uploads/gr%C3%B6%C3%9Fe%207.jpg", "/uploads/gr%C3%B6%C3%9Fe%207.jpg"),
    ("/uploads/100%.jpg", "/uploads/100%25.jpg"),
    ("/uploads/cat #7.jpg", "/uploads/cat%20%237.jpg"),
    ("/uploads/cats/7.jpg?v=2", "/uploads/cats/7.jpg?v=2"),
    ("https://shop.example/uploads/cats/7.jpg", "https://shop.example/uploads/cats/7.jpg"),
    ("//shop.example/uploads/cats/7.jpg", "//shop.example/uploads/cats/7.jpg"),
    ("/elsewhere/7.jpg", "/elsewhere/7.jpg"),
    # New rows: a URL is shown as it is, a key gets the CDN.
    (f"{CDN}/{STEM}/full.jpg", f"{CDN}/{STEM}/full.jpg"),
    (f"{CDN}/{STEM}/full.auto", f"{CDN}/{STEM}/full.auto"),
    (f"{STEM}/full.webp", f"{CDN}/{STEM}/full.webp"),
    # The application's own folder of the same name is not the bucket's.
    ("photos/holiday.jpg", "/uploads/photos/holiday.jpg"),
    # Nothing to show, and what must never get into a page.
    (None, ""),
    ("  ", ""),
    ("javascript:alert(1)", ""),
    (" JavaScript:alert(1)", ""),
    ("data:text/html,<script>", ""),
    ("file:///etc/passwd", ""),
    ("../../etc/passwd", ""),
    ("/uploads/..\\..\\x", ""),
    ("a\nb.jpg", ""),
    ("\ud800.jpg", ""),
    ('"><script>.jpg', "/uploads/%22%3E%3Cscript%3E.jpg"),
]

SIZES: list[tuple[str, dict[str, Any]]] = [
    (f"{CDN}/{STEM}/w800.jpg", {}),
    (f"{CDN}/{STEM}/w800.avif", {"width": 800, "height": 533}),
    (f"{CDN}/{STEM}/w1600.auto", {"width": 1000, "height": 700}),
    (f"{CDN}/{STEM}/full.jpg", {"width": 801, "height": 1200}),
    (f"{CDN}/{STEM}/w300.jpg", {"width": 120, "height": 90}),
    (f"{CDN}/{STEM}/thumb.jpg", {"width": 150, "height": 150}),
    (f"{CDN}/{STEM}/w300.jpg", {"formats": {"w300": {"avif": "https://x/1.avif"}, "w800": {}}}),
    (f"{CDN}/{STEM}/w300.jpg", {"formats": '{"w300":{"jpeg":"https://x/1.jpg"}}'}),
    (f"{CDN}/{STEM}/w800.jpg?Signature=1", {}),
    ("/uploads/cats/7.jpg", {"width": 800, "height": 533}),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a shop."""
    inside = {"fit": "inside", "height": 10_000}
    widths = {f"w{width}": inside | {"width": width} for width in (300, 800, 1600)}
    own = widths | {
        "full": {"fit": "inside", "width": 1200, "height": 1200},
        "thumb": {"fit": "cover", "width": 150, "height": 150},
    }
    field = {"kind": "url", "column": "url", "root": "uploads", "variant": "full"}
    source = {"table": "items", "key": ["id"], "fields": [field], "rewrite": {"mode": "url"}}
    path = tmp_path_factory.mktemp("shop") / "photo_pipeline.yaml"
    document = {
        "version": 1,
        "database": {"env": "SHOP_DATABASE_URL"},
        "roots": [{"name": "uploads", "dir": "/srv/shop/uploads", "url_prefixes": URLS[::-1]}],
        "sources": [source | {"name": "items", "preset": "own"}],
        "store": {"bucket": "shop", "region": "eu-central-1"},
        "cdn": {"base_url": CDN},
        "variants": {"own": own},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def copy(config: Path | None, *arguments: str) -> Any:
    named = ["--config", str(config)] if config else []
    ran = CliRunner().invoke(app, [*named, "helpers", "copy", *arguments, "--json"])
    return ran.exit_code, json.loads(ran.output) if ran.exit_code == 0 else ran.output


@pytest.fixture(scope="module")
def shop(config: Path) -> Iterator[Path]:
    """The shop's own code with the copied files in it; importable as `shop_tags`."""
    folder = config.parent / "shop_tags"
    folder.mkdir()
    (folder / "__init__.py").touch()
    assert copy(config, "django", str(folder))[0] == 0
    assert copy(config, "next", str(folder))[0] == 0
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    sys.path.insert(0, str(config.parent))
    yield folder
    sys.path.remove(str(config.parent))


@pytest.fixture(scope="module")
def photos(shop: Path) -> ModuleType:
    return importlib.import_module("shop_tags.photos")


@pytest.fixture(scope="module")
def javascript(shop: Path) -> dict[str, Any]:
    """What the JavaScript says of the same cases."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no `node` on the PATH: the JavaScript cannot be run")
    script = """
        import { readFileSync } from "node:fs";
        import loader from "./photoLoader.js";
        import { photoSources, placeholderBackground, resolvePhotoUrl } from "./photos.js";
        const { shown, sizes, loaded } = JSON.parse(readFileSync(0));
        console.log(JSON.stringify({
          shown: shown.map(value => resolvePhotoUrl(value)),
          sizes: sizes.map(([url, size]) => photoSources(url, size)),
          loaded: loaded.map(([src, width]) => loader({ src, width, quality: 75 })),
          placeholders: ["#a0B1c2", "url(x)", "data:image/webp;base64,AA==", null].map(placeholderBackground),
        }));
    """
    cases = {"shown": [value for value, _ in SHOWN], "sizes": SIZES, "loaded": [each[:2] for each in LOADED]}
    ran = subprocess.run(
        [node, "--input-type=module", "-e", script],
        cwd=shop,
        input=json.dumps(cases),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


# --- which URL


@pytest.mark.parametrize(("value", "url"), SHOWN)
def test_each_spelling_of_a_row_is_shown(photos: ModuleType, value: str | None, url: str) -> None:
    assert photos.resolve_photo_url(value) == url
    assert photos.resolve_photo_url(value, default="/none.png") == (url or "/none.png")


@pytest.mark.parametrize("value", [value for value, url in SHOWN if value and url.startswith("/uploads/")])
def test_an_old_row_is_shown_the_file_that_the_inventory_takes_it_for(photos: ModuleType, value: str) -> None:
    shown = unquote(photos.resolve_photo_url(value).partition("?")[0]).removeprefix("/uploads/")
    root = RootSpelling("uploads", Path("/srv/shop/uploads"), tuple(URLS))
    meant = root.interpret(value, percent_encoded=True, alternatives=[value.partition("?")[0]])
    assert isinstance(meant, Spelled)
    assert shown in meant.candidates


def test_javascript_shows_what_python_shows(photos: ModuleType, javascript: dict[str, Any]) -> None:
    assert javascript["shown"] == [url if "/srv/" not in str(value) else value for value, url in SHOWN]
    python = [photos.photo_sources(url, **size) for url, size in SIZES]
    assert [
        [{"type": each["type"], "src": each["src"], "srcset": each.get("srcSet")} for each in sources]
        for sources in javascript["sizes"]
    ] == python


def test_browsers_are_not_told_where_the_server_keeps_its_files(shop: Path) -> None:
    assert "/srv/shop/" in (shop / "photos.py").read_text(encoding="utf-8")
    assert "/srv/shop/" not in (shop / "photos.js").read_text(encoding="utf-8")


# --- which files


def widths(photos: ModuleType, url: str, **size: Any) -> list[int]:
    """The widths that the browser may choose from."""
    srcset = photos.photo_sources(url, **size)[0]["srcset"]
    return [int(each.rsplit(" ", 1)[1][:-1]) for each in srcset.split(", ")] if srcset else []


def test_a_large_photo_has_all_sizes_and_a_small_one_those_below_its_own(photos: ModuleType) -> None:
    url = f"{CDN}/{STEM}/w1600.jpg"
    assert widths(photos, url, width=1600, height=1000) == [300, 800, 1200, 1600]
    assert widths(photos, url, width=1000, height=700) == [300, 800, 1000]
    assert widths(photos, url, width=200, height=100) == []


def test_a_box_narrows_a_portrait(photos: ModuleType) -> None:
    assert widths(photos, f"{CDN}/{STEM}/full.jpg", width=600, height=1200) == [300, 600, 800, 1600]


def test_a_crop_is_never_mixed_with_whole_photos(photos: ModuleType) -> None:
    assert widths(photos, f"{CDN}/{STEM}/thumb.jpg", width=150, height=150) == []
    assert "thumb" not in photos.picture(f"{CDN}/{STEM}/w800.jpg", alt="")


def test_written_back_formats_say_which_files_there_are(photos: ModuleType) -> None:
    files = {"w300": {"avif": "https://x/s.avif"}, "w1600": {"avif": "https://x/l.avif"}}
    (avif, *_) = photos.photo_sources(f"{CDN}/{STEM}/w1600.jpg", formats=json.dumps(files))
    assert avif["srcset"] == "https://x/s.avif 300w, https://x/l.avif 1600w"


LOADED = [
    (f"{CDN}/{STEM}/w300.auto", 640, f"{CDN}/{STEM}/w800.auto"),
    (f"{CDN}/{STEM}/w300.jpg", 300, f"{CDN}/{STEM}/w300.jpg"),
    (f"{STEM}/w800.webp", 3840, f"{CDN}/{STEM}/w1600.webp"),
    (f"{CDN}/{STEM}/thumb.jpg", 640, f"{CDN}/{STEM}/thumb.jpg"),
    ("cats/7.jpg", 640, "/uploads/cats/7.jpg"),
]


def test_nexts_loader_takes_the_smallest_size_that_is_wide_enough(javascript: dict[str, Any]) -> None:
    assert javascript["loaded"] == [url for _, _, url in LOADED]


# --- markup


class Tags(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_new_row_is_a_picture_and_an_old_one_an_image(photos: ModuleType) -> None:
    common = {"alt": "A cat", "width": 1600, "height": 1000, "sizes": "50vw", "class_": "card", "data_id": 7}
    tags = Tags(photos.picture(f"{CDN}/{STEM}/w1600.auto", placeholder=PIXEL, **common)).found
    assert [name for name, _ in tags] == ["picture", "source", "source", "img"]
    assert [attributes["type"] for _, attributes in tags[1:3]] == ["image/avif", "image/webp"]
    image = tags[-1][1]
    assert image["src"] == f"{CDN}/{STEM}/w1600.jpg"
    assert image["srcset"].startswith(f"{CDN}/{STEM}/w300.jpg 300w, ")
    wanted = {"alt": "A cat", "width": "1600", "height": "1000", "sizes": "50vw", "class": "card"}
    wanted |= {"loading": "lazy", "decoding": "async", "data-id": "7"}
    assert wanted.items() <= image.items()
    assert image["style"] == f"background:url({PIXEL}) center/cover no-repeat"

    ((name, old),) = Tags(photos.picture("cats/7.jpg", lazy=False, **common)).found
    assert (name, old["src"], old["loading"], old["fetchpriority"]) == (
        *("img", "/uploads/cats/7.jpg", "eager", "high"),
    )
    assert "srcset" not in old
    assert "sizes" not in old


def test_a_row_without_a_photo_shows_the_fallback_or_nothing(photos: ModuleType) -> None:
    assert photos.picture(None, alt="A cat") == ""
    assert Tags(photos.picture(None, alt="A cat", fallback="/none.png")).found[0][1]["src"] == "/none.png"


def test_alt_is_required(photos: ModuleType) -> None:
    with pytest.raises(TypeError, match="alt"):
        photos.picture("cats/7.jpg")


HOSTILE = '"><script>alert(1)</script>'


def test_nothing_that_a_row_says_gets_out_of_its_attribute(photos: ModuleType) -> None:
    plain = Tags(photos.picture(f"{CDN}/{STEM}/w800.jpg", alt="")).found
    markup = photos.picture(
        f"{CDN}/{STEM}/w800.jpg",
        alt=HOSTILE,
        sizes=HOSTILE,
        fallback=HOSTILE,
        class_=HOSTILE,
        width=HOSTILE[:0],
    )
    assert [name for name, _ in Tags(markup).found] == [name for name, _ in plain]
    assert Tags(markup).found[-1][1]["alt"] == HOSTILE
    for value in ("x" + HOSTILE, f"{CDN}/{HOSTILE}"):
        assert len(Tags(photos.picture(value, alt="")).found) == 1


@pytest.mark.parametrize(
    "placeholder", ["red;position:fixed", "url(//evil.example)", "data:image/png;base64,A)"]
)
def test_what_is_no_placeholder_gets_no_style(photos: ModuleType, placeholder: str) -> None:
    assert "style" not in photos.picture("cats/7.jpg", alt="", placeholder=placeholder)


def test_javascript_takes_the_same_placeholders(javascript: dict[str, Any]) -> None:
    background = "url(data:image/webp;base64,AA==) center/cover no-repeat"
    assert javascript["placeholders"] == ["#a0B1c2", None, background, None]


# --- frameworks


class StoredFile:
    """As Django's FieldFile, which templates get for an ImageField: its text is the column's."""

    def __str__(self) -> str:
        return "cats/7.jpg"


def test_djangos_tag_and_filter(shop: Path) -> None:
    if not django_settings.configured:
        django_settings.configure()
        django.setup()
    engine = Engine(libraries={"photo_tags": "shop_tags.photo_tags"})
    template = engine.from_string(
        "{% load photo_tags %}{% picture item.url alt=item.alt sizes='50vw' class_='card' %}"
        "|{{ item.file|photo_url }}|{{ item.none|photo_url }}"
        "|{% picture item.file alt=item.alt as old %}{{ old }}"
    )
    item = {"url": f"{CDN}/{STEM}/w800.jpg", "alt": HOSTILE, "file": StoredFile(), "none": None}
    new, url, none, old = template.render(Context({"item": item})).split("|")
    assert [name for name, _ in Tags(new).found] == ["picture", "source", "source", "img"]
    assert Tags(new).found[-1][1]["alt"] == HOSTILE
    assert (url, none) == ("/uploads/cats/7.jpg", "")
    assert [name for name, _ in Tags(old).found] == ["img"]


def test_jinjas_global_and_filter(photos: ModuleType) -> None:
    environment = jinja2.Environment(autoescape=True)
    environment.globals["picture"] = photos.picture
    environment.filters["photo_url"] = photos.resolve_photo_url
    template = environment.from_string("{{ picture(url, alt=alt) }}|{{ url|photo_url }}")
    markup, url = template.render(url=f"{STEM}/w800.jpg", alt=HOSTILE).split("|")
    assert [name for name, _ in Tags(markup).found] == ["picture", "source", "source", "img"]
    assert url == f"{CDN}/{STEM}/w800.jpg"


# --- getting them


def test_pythons_files_need_the_standard_library_alone_and_djangos_django() -> None:
    imported = set()
    for text in helper_files("django").values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"django"}


def test_every_helper_is_listed_and_can_be_copied(tmp_path: Path, config: Path) -> None:
    listed = json.loads(CliRunner().invoke(app, ["helpers", "list", "--json"]).output)["helpers"]
    assert set(listed) == set(APPLICATION_CODE)
    for name in listed:
        folder = tmp_path / name
        folder.mkdir()
        code, told = copy(config, name, str(folder))
        assert (code, told["filled_in"]) == (0, True)
        assert sorted(path.name for path in folder.iterdir()) == sorted(listed[name]["files"])


def test_an_existing_file_is_never_replaced(tmp_path: Path, config: Path) -> None:
    (tmp_path / "photo_tags.py").write_text("mine", encoding="utf-8")
    code, told = copy(config, "django", str(tmp_path))
    assert code == 3
    assert "exists already" in told
    assert [path.name for path in tmp_path.iterdir()] == ["photo_tags.py"]


def test_without_a_configuration_they_say_what_to_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PHOTO_PIPELINE_CONFIG", raising=False)
    code, told = copy(None, "python")
    assert (code, told["filled_in"]) == (0, False)
    assert 'CDN = "https://cdn.example.com"' in (tmp_path / "photos.py").read_text(encoding="utf-8")


def test_presets_that_mean_different_sizes_are_not_mixed(tmp_path: Path, config: Path) -> None:
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    document["sources"].append(
        document["sources"][0] | {"name": "more", "table": "more", "preset": "original"}
    )
    both = tmp_path / "photo_pipeline.yaml"
    both.write_text(yaml.safe_dump(document), encoding="utf-8")
    code, told = copy(both, "python", str(tmp_path))
    assert code == 2
    assert "--preset" in told
    assert copy(both, "python", str(tmp_path), "--preset", "original")[0] == 0
    assert 'VARIANTS = {"full": [4000, 4000]}' in (tmp_path / "photos.py").read_text(encoding="utf-8")


def test_an_unknown_helper_is_refused_with_their_names() -> None:
    with pytest.raises(ConfigurationError, match="Use one of python, django"):
        helper_files("rails")
