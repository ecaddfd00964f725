"""What a real Chromium makes of the copied files' markup, on a site that was really migrated.

The embedded edge serves the CDN's URLs, a small server the application's own. AVIF and WebP are switched off
by Chromium's own `Emulation.setDisabledImageTypes`.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import Request, urlopen

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Page, Route, expect
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.browser.accessibility import serious_findings
from photo_pipeline_tests.browser.conftest import PHONE, OpenPage
from photo_pipeline_tests.browser.shop import Shop
from photo_pipeline_tests.conftest import standing_site
from photo_pipeline_tests.npm import installed
from photo_pipeline_tests.sites import HEIGHT, ITEM_PHOTOS, WIDTH, item_photo, photo

WIDTHS = {f"w{width}": {"fit": "inside", "width": width, "height": 10_000} for width in (300, 800, 1600)}
OWN = WIDTHS | {"thumb": {"fit": "cover", "width": 150, "height": 150}}
WRITE_BACK = {"width": "width", "height": "height", "formats": "formats_json", "placeholder": "placeholder"}
STYLE = "<style>img { max-width: 100%; height: auto }</style>"
LIBRARIES = Path(__file__).with_name("javascript")


@dataclass(frozen=True)
class Scene:
    """A migrated shop: its server, its rows by what they are, and the files that it copied."""

    shop: Shop
    cdn: str
    rows: dict[str, dict[str, Any]]
    code: Path
    photos: ModuleType

    def picture(self, name: str, **options: Any) -> str:
        """Return the markup that the shop's own template would contain."""
        return str(self.photos.picture(self.rows[name]["original_url"], **(self.described(name) | options)))

    def described(self, name: str) -> dict[str, Any]:
        row = self.rows[name]
        return {each: row[each] for each in ("alt", "width", "height", "placeholder")}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[Scene]:
    """Two migrated photos (1000 and 400 pixels wide), one that is not migrated yet, and a row without one."""
    home, code = tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("code")
    fields = [
        {"kind": "url", "column": "original_url", "root": "uploads", "role": "primary", "variant": "w1600"},
        {"kind": "url", "column": "thumbnail_url", "root": "uploads", "role": "variant", "variant": "thumb"},
    ]
    rewrite = {"mode": "url", "format": "jpeg", "write_back": WRITE_BACK}
    photo(home / "uploads/items/0.jpg", width=1000, height=700)
    photo(home / "uploads/items/1.jpg", width=400, height=300, seed=1)
    settings = {
        "photos": 0,
        "rows": [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(2)],
        "sources": [ITEM_PHOTOS | {"fields": fields, "rewrite": rewrite, "preset": "own"}],
        "variants": {"own": OWN},
        "images": {"own": {"effort": "speed"}},
    }
    with standing_site(home, servers, **settings) as site, Shop() as shop:
        site.execute("ALTER TABLE item_photos ADD COLUMN formats TEXT")
        site.execute("ALTER TABLE item_photos ADD COLUMN placeholder TEXT")
        site.migrate()
        for number, value in ((2, "items/not yet.jpg"), (3, None)):
            site.execute(
                "INSERT INTO item_photos (id, original_url, width, height, alt)"
                " VALUES (:n, :v, :width, :height, :a)",
                n=f"z{number}",
                v=value,
                a=f"photo {number}",
                width=WIDTH,
                height=HEIGHT,
            )
        old = photo(home / "uploads/items/not yet.jpg", seed=2)
        shop.put("/uploads/items/not%20yet.jpg", old.read_bytes(), "image/jpeg")
        rows = [dict(row._mapping) for row in site.execute("SELECT * FROM item_photos ORDER BY id")]
        for helper in ("python", "page", "next"):
            ran = CliRunner().invoke(
                app, ["--config", str(site.config_path), "helpers", "copy", helper, str(code)]
            )
            assert ran.exit_code == 0, ran.output
        (code / "Photo.jsx").write_bytes(_component("Photo.jsx"))
        (code / "Photo.d.ts").write_bytes(_component("Photo.d.ts"))
        shop.put("/photos-page.js", (code / "photos-page.js").read_bytes(), "text/javascript")
        named = dict(zip(("large", "small", "old", "none"), rows, strict=True))
        yield Scene(shop, servers.cdn_url, named, code, _imported(code / "photos.py"))


def _component(name: str) -> bytes:
    package = importlib.util.find_spec("photo_pipeline.core.delivery.application_files")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name(name).read_bytes()


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("shop_photos", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- what the markup names is there


class Files(HTMLParser):
    """Every (URL, type or None, width or None) that markup names."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None, int | None]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for candidate in (given.get("srcset") or "").split(", "):
            url, _, width = candidate.partition(" ")
            if url:
                self.found.append((url, given.get("type"), int(width[:-1]) if width else None))
        if given.get("src"):
            self.found.append((str(given["src"]), None, None))


@pytest.mark.parametrize(("name", "files"), [("large", 10), ("small", 7), ("old", 1)])
def test_every_file_that_the_markup_names_is_served_as_what_it_says(
    scene: Scene, name: str, files: int
) -> None:
    found = Files(scene.picture(name)).found
    assert len(found) == files  # three formats of each width, and the plain one
    for url, mime, width in found:
        asked = Request(url if "//" in url else scene.shop.url + url)
        with urlopen(asked, timeout=10) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith(mime or "image/jpeg")
            with Image.open(BytesIO(answer.read())) as image:
                assert image.width == (width or scene.rows[name]["width"])


def test_a_thumbnails_row_offers_the_thumbnail_alone(scene: Scene) -> None:
    thumbnail = scene.rows["large"]["original_url"].replace("/w1600.", "/thumb.")
    found = Files(scene.photos.picture(thumbnail, alt="")).found
    assert [url.rpartition("/")[2] for url, _, _ in found] == ["thumb.avif", "thumb.webp", "thumb.jpg"]
    for url, _, _ in found:
        with urlopen(url, timeout=10) as answer:
            assert answer.status == 200


def test_the_urls_that_follow_from_one_are_those_that_were_written_back(scene: Scene) -> None:
    for name in ("large", "small"):
        assert scene.picture(name) == scene.picture(name, formats=scene.rows[name]["formats"])


# --- what the browser chooses


def chosen(page: Page) -> str:
    """Return the name of the file that the page's first image shows, once it does."""
    image = page.locator("img").first
    expect(image).to_have_js_property("complete", True)
    expect(image).not_to_have_js_property("naturalWidth", 0)
    return str(page.evaluate("document.images[0].currentSrc")).rpartition("/")[2]


@pytest.mark.parametrize(
    ("unsupported", "extension"), [([], "avif"), (["avif"], "webp"), (["avif", "webp"], "jpg")]
)
def test_chromium_takes_the_best_format_that_it_can_show(
    scene: Scene, open_page: OpenPage, unsupported: list[str], extension: str
) -> None:
    page = open_page()
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setDisabledImageTypes", {"imageTypes": unsupported})
    page.goto(scene.shop.page(scene.picture("large")))
    assert chosen(page) == f"w1600.{extension}"


@pytest.mark.parametrize(("density", "name"), [(1, "w300.avif"), (2, "w800.avif"), (3, "w1600.avif")])
def test_chromium_takes_the_size_that_the_page_shows(
    scene: Scene, open_page: OpenPage, density: int, name: str
) -> None:
    page = open_page(viewport=PHONE, device_scale_factor=density)
    page.goto(scene.shop.page(scene.picture("large", sizes="300px")))
    assert chosen(page) == name


def test_an_old_row_is_shown_from_the_application(scene: Scene, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(scene.shop.page(scene.picture("old")))
    assert chosen(page) == "not%20yet.jpg"


# --- before it is there, and when it never comes


SCRIPT = '<script src="/photos-page.js" defer></script>'


def average(page: Page) -> list[float]:
    """Return the mean colour of what the page's first image shows."""
    with Image.open(BytesIO(page.locator("img").first.screenshot())) as shown:
        return ImageStat.Stat(shown.convert("RGB")).mean


def hold(page: Page, pattern: str) -> list[Route]:
    """Keep the requests for the pattern waiting; return them."""
    held: list[Route] = []
    page.route(pattern, lambda route: held.append(route))
    return held


def test_the_placeholder_shows_in_place_until_the_photo_is_there(scene: Scene, open_page: OpenPage) -> None:
    page = open_page()
    held = hold(page, f"{scene.cdn}/**")
    with page.expect_request(f"{scene.cdn}/**"):
        page.goto(scene.shop.page(scene.picture("large"), head=STYLE + SCRIPT))
    before, box = average(page), page.locator("img").bounding_box()
    held[0].continue_()
    assert chosen(page) == "w1600.avif"
    expect(page.locator("img").first).to_have_css("background-image", "none")
    assert before == pytest.approx(average(page), abs=12)
    assert page.locator("img").bounding_box() == box


def test_without_a_placeholder_there_would_be_nothing_to_see(scene: Scene, open_page: OpenPage) -> None:
    page = open_page()
    hold(page, f"{scene.cdn}/**")
    with page.expect_request(f"{scene.cdn}/**"):
        page.goto(scene.shop.page(scene.picture("large", placeholder=None), head=STYLE))
    assert min(average(page)) > 250


def broken(page: Page, *patterns: str) -> None:
    for pattern in patterns:
        page.route(pattern, lambda route: route.fulfill(status=403, body=""))


@pytest.mark.parametrize("when", ["before the script", "after the script"])
def test_a_failing_format_falls_back_to_jpeg(scene: Scene, open_page: OpenPage, when: str) -> None:
    page = open_page()
    broken(page, "**/*.avif")
    early = when == "before the script"
    page.goto(scene.shop.page(scene.picture("large", lazy=False), head="" if early else SCRIPT))
    if early:
        page.wait_for_function("document.images[0].complete")
        page.add_script_tag(url="/photos-page.js")
    assert chosen(page) == "w1600.jpg"


def test_a_photo_that_is_gone_is_the_fallback_and_then_its_alt_text(
    scene: Scene, open_page: OpenPage
) -> None:
    page = open_page()
    broken(page, f"{scene.cdn}/**")
    scene.shop.put("/none.png", photo_bytes(), "image/png")
    both = scene.picture("large", fallback="/none.png") + scene.picture("small", fallback="/missing.png")
    page.goto(scene.shop.page(both, head=SCRIPT))
    assert chosen(page) == "none.png"
    gone = page.locator("img.photo-failed")
    gone.wait_for()
    assert gone.count() == 1
    assert gone.get_attribute("alt") == "photo 1"
    assert gone.evaluate("image => image.style.background") == ""


def photo_bytes() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 30), "#808080").save(buffer, "PNG")
    return buffer.getvalue()


def test_all_of_it_works_under_a_strict_content_security_policy(scene: Scene, open_page: OpenPage) -> None:
    page = open_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Security" in message.text else None)
    held = hold(page, "**/*.avif")
    policy = f"default-src 'none'; script-src 'self'; img-src 'self' data: {scene.cdn}"
    markup = scene.picture("large", inline_style=False)
    with page.expect_request("**/*.avif"):
        page.goto(scene.shop.page(markup, csp=policy, head=SCRIPT))
    expect(page.locator("img")).to_have_css("background-image", re.compile("^url"))
    assert max(average(page)) < 200, "the placeholder does not show"
    held[0].fulfill(status=403, body="")
    assert chosen(page) == "w1600.jpg"
    expect(page.locator("img").first).to_have_css("background-image", "none")
    assert refused == []


def test_a_strict_policy_does_refuse_the_inline_style(scene: Scene, open_page: OpenPage) -> None:
    page = open_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Security" in message.text else None)
    page.goto(scene.shop.page(scene.picture("large"), csp=f"default-src 'none'; img-src data: {scene.cdn}"))
    assert chosen(page) == "w1600.avif"
    assert refused


def test_a_photo_far_below_is_not_asked_for_before_the_visitor_scrolls(
    scene: Scene, open_page: OpenPage
) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    far = '<div style="height: 20000px"></div>' + scene.picture("small")
    page.goto(scene.shop.page(scene.picture("large") + far))
    assert chosen(page) == "w1600.avif"
    sha256 = scene.rows["small"]["original_url"].split("/")[-3]
    assert not [url for url in asked if sha256 in url]
    with page.expect_request(f"**/{sha256}/**"):
        page.locator("img").last.scroll_into_view_if_needed()


def test_axe_finds_nothing_serious(scene: Scene, open_page: OpenPage) -> None:
    page = open_page(viewport=PHONE)
    body = "".join(scene.picture(name) for name in scene.rows) + scene.picture("small", alt="")
    page.goto(scene.shop.page(body, head=STYLE + SCRIPT))
    assert chosen(page).endswith(".avif")
    assert serious_findings(page) == []


# --- React and Next.js


@pytest.fixture(scope="module")
def react(scene: Scene) -> Path:
    """The copied component, bundled with real React for a server (Node) and for browsers."""
    modules = installed("react")
    for source in (LIBRARIES / "react").glob("*.[jt]sx"):
        shutil.copy(source, scene.code)
    (scene.code / "node_modules").symlink_to(modules)
    (scene.code / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    bundle = ["node_modules/.bin/esbuild", "--bundle", "--jsx=automatic", "--log-level=warning"]
    defined = '--define:process.env.NODE_ENV="development"'
    run([*bundle, defined, "browser.jsx", "--outfile=built/browser.js"], scene.code)
    run([*bundle, "--platform=node", "--format=cjs", "server.jsx", "--outfile=built/server.cjs"], scene.code)
    scene.shop.put("/browser.js", (scene.code / "built/browser.js").read_bytes(), "text/javascript")
    return scene.code


def run(command: list[str], folder: Path, text: str = "") -> str:
    ran = subprocess.run(command, cwd=folder, input=text, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def props(scene: Scene, name: str, **more: Any) -> dict[str, Any]:
    return {"value": scene.rows[name]["original_url"], **scene.described(name), **more}


def react_page(scene: Scene, photos: list[dict[str, Any]], *, rendered: str = "") -> str:
    """Serve a page with the component; what Node rendered of it is in it already, if anything."""
    data = json.dumps(photos).replace("<", "\\u003c")
    return scene.shop.page(
        f'<div id="root">{rendered}</div><script type="application/json" id="photos">{data}</script>'
        '<script src="/browser.js"></script>',
        head=STYLE,
    )


def test_react_renders_on_a_server_what_python_renders(scene: Scene, react: Path) -> None:
    names = ["large", "small", "old", "none"]
    photos = [props(scene, name) for name in names]
    rendered = run(["node", "built/server.cjs"], react, json.dumps(photos))
    # React begs browsers to preload what is not lazy; ours is, so that only the photos remain.
    python = "".join(scene.picture(name) for name in names)
    assert Files(rendered).found == Files(python).found
    assert rendered.count("background:url(data:image/webp;base64,") == 2


def test_react_takes_over_a_page_from_the_server(scene: Scene, react: Path, open_page: OpenPage) -> None:
    page = open_page()  # A hydration that differs is an error of the page, which fails the test.
    photos = [props(scene, "large"), props(scene, "old")]
    page.goto(
        react_page(scene, photos, rendered=run(["node", "built/server.cjs"], react, json.dumps(photos)))
    )
    assert chosen(page) == "w1600.avif"
    assert "url(" in page.evaluate("document.images[0].style.background")
    page.evaluate("hydrate()")  # The photo came before React: its event is over.
    expect(page.locator("img").first).to_have_css("background-image", "none")
    assert page.evaluate("document.images.length") == 2


def test_react_falls_back_and_shows_another_value_afresh(
    scene: Scene, react: Path, open_page: OpenPage
) -> None:
    page = open_page()
    broken(page, "**/*.avif", f"**/{scene.rows['small']['original_url'].split('/')[-3]}/**")
    scene.shop.put("/none.png", photo_bytes(), "image/png")
    page.goto(react_page(scene, []))
    page.evaluate("photos => render(photos)", [props(scene, "large")])
    page.wait_for_function(
        "document.images[0]?.currentSrc.endsWith('w1600.jpg') && !document.querySelector('source')"
    )
    page.evaluate("photos => render(photos)", [props(scene, "small", fallback="/none.png")])
    page.wait_for_function("document.images[0].currentSrc.endsWith('/none.png')")
    page.evaluate("photos => render(photos)", [props(scene, "small")])
    page.wait_for_function("'failed' in document.images[0].dataset")
    assert page.locator("img").get_attribute("alt") == "photo 1"
    page.unroute("**/*.avif")
    page.evaluate("photos => render(photos)", [props(scene, "large")])
    assert chosen(page) == "w1600.avif"
    assert serious_findings(page) == []


@pytest.mark.slow
def test_typescript_accepts_right_uses_and_refuses_wrong_ones(react: Path) -> None:
    options = "--noEmit --strict --jsx react-jsx --module esnext --moduleResolution bundler --target es2022"
    run(["node_modules/.bin/tsc", *options.split(), "usage.tsx"], react)


@pytest.mark.slow
def test_nexts_own_image_takes_what_the_loader_gives(scene: Scene, tmp_path: Path) -> None:
    for name in ("photos.js", "photoLoader.js"):
        shutil.copy(scene.code / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(installed("next"))
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    script = """
        import next from "next/image.js";
        import loader from "./photoLoader.js";
        import { readFileSync } from "node:fs";
        const shown = src => next.getImageProps({ src, alt: "", width: 400, height: 280, loader }).props;
        console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(shown)));
    """
    urls = [scene.rows[name]["original_url"] for name in ("large", "old")]
    shown = json.loads(run(["node", "--input-type=module", "-e", script], tmp_path, json.dumps(urls)))
    new, old = (Files(f'<img srcset="{each["srcSet"]}" src="{each["src"]}">').found for each in shown)
    assert {url.rpartition("/")[2] for url, _, _ in new} == {"w800.jpg", "w1600.jpg"}
    assert {url for url, _, _ in old} == {"/uploads/items/not%20yet.jpg"}
