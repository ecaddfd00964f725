"""What a bad configuration is told, and what the environment may add to a good one."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.config import (
    DEFAULT_VARIANTS,
    ImageSettings,
    VariantSettings,
    WatermarkSettings,
    database_url,
    find_config,
    load_config,
    parse_size,
)
from photo_pipeline.core.errors import ConfigurationError

GOOD: dict[str, Any] = {
    "version": 1,
    "database": {"env": "SHOP_DATABASE_URL"},
    "roots": [{"name": "uploads", "dir": "public/uploads", "url_prefixes": ["/uploads/"]}],
    "sources": [
        {
            "name": "photos",
            "table": "photos",
            "key": ["id"],
            "fields": [{"kind": "url", "column": "url", "root": "uploads"}],
            "rewrite": {"mode": "url", "touch": ["updated_at"]},
        }
    ],
    "store": {"bucket": "shop-photos", "region": "eu-central-1"},
    "cdn": {"base_url": "https://cdn.example.com"},
}
OTHER_FIELD = {"kind": "url", "column": "thumbnail", "root": "uploads"}
FROM_ENVIRONMENT = ("AWS_S3_BUCKET_NAME", "AWS_CLOUDFRONT_DOMAIN", "AWS_REGION", "AWS_DEFAULT_REGION")

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*FROM_ENVIRONMENT, "SHOP_DATABASE_URL", "PHOTO_PIPELINE_CONFIG"):
        # setenv first, so that whatever a .env file adds during the test is undone after it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def written(folder: Path, change: Change = lambda document: None) -> Path:
    document = copy.deepcopy(GOOD)
    change(document)
    path = folder / "photo_pipeline.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def source(document: dict[str, Any]) -> dict[str, Any]:
    return document["sources"][0]


def images(**settings: Any) -> Change:
    return lambda document: document.update(images={"default": settings})


def watermark(**settings: Any) -> Change:
    return images(watermark={"image": "mark.png"} | settings)


THUMB = {"fit": "cover", "width": 150, "height": 150}
BAD: dict[str, tuple[Change, str]] = {
    "an unknown key at the top": (lambda d: d.update(stoer={}), "stoer: this key is not known"),
    "an unknown key further down": (
        lambda d: d["store"].update(bukket="b"),
        "store.bukket: this key is not known",
    ),
    "an unknown key of a field": (lambda d: source(d)["fields"][0].update(colour=1), "colour: this key"),
    "an unknown version": (lambda d: d.update(version=2), "version"),
    "no database": (lambda d: d.pop("database"), "database: field required"),
    "no roots": (lambda d: d.update(roots=[]), "roots"),
    "no sources": (lambda d: d.update(sources=[]), "sources"),
    "a source without key columns": (lambda d: source(d).update(key=[]), "sources.0.key"),
    "an unknown field kind": (lambda d: source(d)["fields"][0].update(kind="json"), "sources.0.fields.0"),
    "an unknown root": (
        lambda d: source(d)["fields"][0].update(root="media"),
        "root 'media' is not declared",
    ),
    "an unknown preset": (lambda d: source(d).update(preset="huge"), "preset 'huge' is not among"),
    "an unknown variant": (lambda d: source(d)["fields"][0].update(variant="xl"), "no variant 'xl'"),
    "an unknown write-back variant": (
        lambda d: source(d)["rewrite"].update(write_back={"small": "url.small"}),
        "write_back.small: no variant 'small'",
    ),
    "an unknown quantity": (
        lambda d: source(d)["rewrite"].update(write_back={"weight": "kilos"}),
        "write_back.weight: 'kilos' is not known",
    ),
    "an unknown rewrite mode": (lambda d: source(d)["rewrite"].update(mode="magic"), "rewrite.mode"),
    "two roots of one name": (
        lambda d: d["roots"].append(d["roots"][0]),
        "roots: the name 'uploads' is used",
    ),
    "two sources of one name": (
        lambda d: d["sources"].append(source(d)),
        "sources: the name 'photos' is used twice",
    ),
    "two sources that write one column": (
        lambda d: d["sources"].append(source(d) | {"name": "more", "fields": [OTHER_FIELD]}),
        "sources 'photos' and 'more' both write column 'updated_at' of table 'photos'",
    ),
    "a prefix without its slash": (
        lambda d: d["roots"][0].update(url_prefixes=["/uploads"]),
        "url_prefixes: '/uploads' must end with a slash",
    ),
    "a protected column that would be written": (
        lambda d: source(d).update(protect=["updated_at"]),
        "column 'updated_at' is protected",
    ),
    "a key column that would be written": (
        lambda d: source(d)["rewrite"].update(touch=["id"]),
        "key column 'id' would be written",
    ),
    "a column written twice": (
        lambda d: source(d)["rewrite"].update(write_back={"url": "s3_key"}),
        "column 'url' is written twice",
    ),
    "a copy without a primary": (
        lambda d: source(d)["fields"][0].update(role="variant"),
        "a field with role variant needs one with role primary",
    ),
    "a condition without a value": (
        lambda d: source(d).update(where=[{"column": "kind", "op": "eq"}]),
        "where: eq on kind needs a value",
    ),
    "a list condition without a list": (
        lambda d: source(d).update(where=[{"column": "kind", "op": "in", "value": "a"}]),
        "where: in on kind needs a list",
    ),
    "raw SQL as a condition": (lambda d: source(d).update(where="1=1"), "sources.0.where"),
    "a size that is no size": (
        lambda d: d.update(inventory={"max_file_bytes": "50 megs"}),
        "inventory.max_file_bytes: '50 megs' is not a size",
    ),
    "a size of nothing": (lambda d: d.update(inventory={"max_file_bytes": 0}), "inventory.max_file_bytes"),
    "a size beyond all numbers": (
        lambda d: d.update(inventory={"max_file_bytes": "9" * 400 + " GB"}),
        "inventory.max_file_bytes",
    ),
    "a sample of more than everything": (lambda d: d.update(quality={"sample": 2}), "quality.sample"),
    "a sample of less than nothing": (lambda d: d.update(quality={"sample": -0.1}), "quality.sample"),
    "a floor above the best": (lambda d: d.update(quality={"floor": 101}), "quality.floor"),
    "a floor that is no number": (lambda d: d.update(quality={"floor": float("nan")}), "quality.floor"),
    "a batch of no photos": (lambda d: d.update(batches={"size": 0}), "batches.size"),
    "a variant of no width": (
        lambda d: d.update(variants={"default": {"full": {"fit": "inside", "width": 0, "height": 9}}}),
        "variants.default.full.width",
    ),
    "a crop that nobody knows": (
        lambda d: d.update(variants={"own": {"thumb": THUMB | {"crop": "faces"}}}),
        "variants.own.thumb.crop",
    ),
    "a variant that the shipped preset does not have": (
        lambda d: source(d).update(preset="responsive"),
        "preset 'responsive' has no variant 'full'",
    ),
    "images of an unknown preset": (
        lambda d: d.update(images={"huge": {}}),
        "images: preset 'huge' is not among ['default', 'original', 'responsive']",
    ),
    "an unknown key of images": (images(contrast=2), "images.default.contrast: this key is not known"),
    "an unknown effort": (images(effort="heroic"), "images.default.effort"),
    "sharpening by an amount": (images(sharpen=0.3), "images.default.sharpen"),
    "a background by its name": (images(background="white"), "images.default.background"),
    "an unknown treatment of animations": (images(animation="drop"), "images.default.animation"),
    "GPS perhaps": (images(gps="perhaps"), "images.default.gps"),
    "a watermark without its picture": (
        images(watermark={"opacity": 0.5}),
        "images.default.watermark.image: field required",
    ),
    "a watermark that nobody sees": (watermark(opacity=0), "images.default.watermark.opacity"),
    "a watermark more than opaque": (watermark(opacity=1.1), "images.default.watermark.opacity"),
    "a watermark wider than the variant": (watermark(scale=1.5), "images.default.watermark.scale"),
    "a watermark of no width": (watermark(scale=0), "images.default.watermark.scale"),
    "a watermark that margins leave no room": (watermark(margin=0.5), "images.default.watermark.margin"),
    "a watermark outside of the picture": (watermark(margin=-0.1), "images.default.watermark.margin"),
    "a watermark in no known place": (watermark(position="middle"), "images.default.watermark.position"),
    "half a focal point": (
        lambda d: source(d).update(focal_point={"x": "focus_x"}),
        "sources.0.focal_point.y: field required",
    ),
    "a focal point that is no pair of columns": (
        lambda d: source(d).update(focal_point=[0.5, 0.5]),
        "sources.0.focal_point",
    ),
    "a prefix that leaves its place": (lambda d: d["store"].update(prefix="../x"), "prefix '../x' must be"),
    "originals where the CDN serves": (
        lambda d: d["store"].update(originals_prefix="photos/originals"),
        "prefix and originals_prefix must not contain each other",
    ),
    "an unknown spending plan": (lambda d: d.update(limits={"plan": "free-for-all"}), "limits.plan"),
    "an alert channel that is not set up": (
        lambda d: d.update(alerts={"channels": ["log", "email"]}),
        "channels names email, and the section alerts.email is missing",
    ),
    "an unknown alert channel": (lambda d: d.update(alerts={"channels": ["pager"]}), "alerts.channels.0"),
    "an address that would be two headers": (
        lambda d: d.update(
            alerts={"email": {"host": "h", "sender": "a@b", "recipients": ["a@b\r\nBcc: c@d"]}}
        ),
        "is no mail address",
    ),
    "a topic that is no ARN": (
        lambda d: d.update(alerts={"sns": {"topic_arn": "alerts"}}),
        "alerts.sns.topic_arn",
    ),
    "a dashboard that is no web page": (
        lambda d: d.update(dashboard={"url": "javascript:alert(1)"}),
        "dashboard.url",
    ),
    "a dashboard with its token": (
        lambda d: d.update(dashboard={"url": "http://shop.example:8321/open?token=x"}),
        "dashboard.url",
    ),
    "no bucket anywhere": (lambda d: d["store"].pop("bucket"), "store.bucket: no bucket is named"),
    "no CDN anywhere": (lambda d: d.pop("cdn"), "cdn.base_url: no CDN URL is named"),
    "a CDN that is no URL": (
        lambda d: d["cdn"].update(base_url="cdn.example.com"),
        "cdn.base_url: 'cdn.example.com' is not an http(s) URL",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_refused_and_named(tmp_path: Path, name: str) -> None:
    change, told = BAD[name]
    with pytest.raises(ConfigurationError) as caught:
        load_config(written(tmp_path, change))
    assert told in str(caught.value)


def test_the_settings_that_these_tests_break_are_good_when_whole(tmp_path: Path) -> None:
    config = load_config(written(tmp_path))
    assert config.source("photos").written_columns == ("url", "updated_at")


def test_every_problem_is_named_and_many_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"one: this key .*; two: this key is not known\. "):
        load_config(written(tmp_path, lambda d: d.update(one=1, two=2)))
    with pytest.raises(ConfigurationError, match=r"k4: this key is not known \(and 3 more\)"):
        load_config(written(tmp_path, lambda d: d.update({f"k{number}": 1 for number in range(8)})))


def test_a_file_without_sources_says_who_proposes_them(tmp_path: Path) -> None:
    path = written(tmp_path, lambda d: d.update(sources=[]))
    with pytest.raises(ConfigurationError, match=r"sources: it names no source.*mapping suggest"):
        load_config(path)
    assert load_config(path, needs_sources=False).sources == ()


def test_a_source_that_the_file_no_longer_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="source 'avatars'"):
        load_config(written(tmp_path)).source("avatars")


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigurationError, match=str(path)):
        find_config(path)
    monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", str(path))
    with pytest.raises(ConfigurationError, match=str(path)):
        find_config()
    with pytest.raises(ConfigurationError, match="it cannot be read"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it holds no settings"),
        (b"- a\n- list\n", "it holds no settings"),
        (b"just a text", "it holds no settings"),
        (b"roots: [unclosed\nversion: 1", "it is not valid YAML"),
        (b"\xff\xfe\x00 not UTF-8", "it is not valid YAML"),
        (b"version: 1\x00", "it is not valid YAML"),
        (b"!!python/object/apply:os.system ['true']", "it is not valid YAML"),
    ],
)
def test_a_file_without_settings_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "photo_pipeline.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=told):
        load_config(path)


def test_the_environment_fills_in_what_the_file_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_BUCKET_NAME", "from-env")
    monkeypatch.setenv("AWS_CLOUDFRONT_DOMAIN", "d111.cloudfront.net")
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    config = load_config(written(tmp_path, lambda d: (d.pop("store"), d.pop("cdn"))))
    assert (config.store.bucket, config.store.region) == ("from-env", "ap-south-1")
    assert config.cdn.base_url == "https://d111.cloudfront.net"


def test_a_cloudfront_domain_with_its_scheme_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CLOUDFRONT_DOMAIN", "https://d111.cloudfront.net/")
    config = load_config(written(tmp_path, lambda d: d.pop("cdn")))
    assert config.cdn.base_url == "https://d111.cloudfront.net"


def test_the_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FROM_ENVIRONMENT:
        monkeypatch.setenv(name, "from-env")
    config = load_config(written(tmp_path))
    assert (config.store.bucket, config.store.region) == ("shop-photos", "eu-central-1")
    assert config.cdn.base_url == "https://cdn.example.com"


def test_the_region_is_us_east_1_when_nobody_names_one(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, lambda d: d["store"].pop("region"))).store.region == "us-east-1"


def test_relative_folders_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(written(tmp_path, lambda d: d.update(state={"staging_dir": "../staging"})))
    assert config.root("uploads").dir == tmp_path / "public/uploads"
    assert config.state.staging_dir == tmp_path.parent / "staging"
    assert config.state.report_dir.is_absolute()
    assert config.state.backup_dir == tmp_path / ".photo_pipeline/backups"


def test_the_scheduled_validation_can_be_set(tmp_path: Path) -> None:
    assert load_config(written(tmp_path)).validation.schedule == "0 3 * * *"
    settings = {"schedule": "30 4 * * 1", "sample": 0.5}
    assert load_config(written(tmp_path, lambda d: d.update(validation=settings))).validation.sample == 0.5
    for wrong in ({"schedule": "daily"}, {"sample": 0}, {"sample": 1.5}):
        with pytest.raises(ConfigurationError, match=r"validation\."):
            load_config(written(tmp_path, lambda d, wrong=wrong: d.update(validation=wrong)))


def test_the_presets_of_the_file_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, lambda d: d.update(variants={"avatars": {"thumb": THUMB}})))
    assert set(config.variants) == {"default", "responsive", "original", "avatars"}
    assert {name: config.variants[name] for name in DEFAULT_VARIANTS} == DEFAULT_VARIANTS


def test_a_shipped_preset_that_the_file_names_is_replaced_as_a_whole(tmp_path: Path) -> None:
    full = {"fit": "inside", "width": 900, "height": 900}
    config = load_config(written(tmp_path, lambda d: d.update(variants={"default": {"full": full}})))
    assert config.variants["default"] == {"full": VariantSettings(fit="inside", width=900, height=900)}
    assert config.variants["original"] == DEFAULT_VARIANTS["original"]


def test_the_shipped_presets_are_those_of_the_product(tmp_path: Path) -> None:
    presets = load_config(written(tmp_path)).variants
    boxes = {
        preset: {name: (each.fit, each.width, each.height) for name, each in variants.items()}
        for preset, variants in presets.items()
    }
    thumb = {"thumb": ("cover", 150, 150)}
    assert boxes == {
        "default": {"full": ("inside", 1200, 1200)} | thumb,
        "responsive": {f"w{w}": ("inside", w, 10_000) for w in (300, 400, 800, 1200, 1600)} | thumb,
        "original": {"full": ("inside", 4000, 4000)} | thumb,
    }
    assert presets["default"]["full"].max_bytes == presets["responsive"]["w1200"].max_bytes == 102_400
    targets = [presets["responsive"][f"w{width}"].max_bytes or 0 for width in (300, 400, 800, 1200, 1600)]
    assert targets == sorted(targets)
    assert presets["original"]["full"].max_bytes is None


def test_a_source_may_name_a_shipped_preset(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        source(document).update(preset="responsive")
        source(document)["fields"][0].update(variant="w800")

    assert load_config(written(tmp_path, change)).source("photos").preset == "responsive"


def test_covers_are_cropped_around_the_subject_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    own = {"square": THUMB, "middle": THUMB | {"crop": "center"}}
    variants = load_config(written(tmp_path, lambda d: d.update(variants={"own": own}))).variants["own"]
    assert {name: each.crop for name, each in variants.items()} == {
        "square": "attention",
        "middle": "center",
    }


def test_how_pixels_are_made_is_said_by_preset(tmp_path: Path) -> None:
    said = {
        "effort": "quality",
        "sharpen": True,
        "background": "#0A0b0c",
        "animation": "keep",
        "watermark": {
            "image": "/marks/mark.png",
            "opacity": 1,
            "position": "center",
            "scale": 0.4,
            "margin": 0,
        },
        "gps": True,
    }
    config = load_config(written(tmp_path, lambda d: d.update(images={"original": said})))
    mark = WatermarkSettings(image=Path("/marks/mark.png"), opacity=1, position="center", scale=0.4, margin=0)
    assert config.images == {
        "original": ImageSettings(
            effort="quality",
            sharpen=True,
            background="#0A0b0c",
            animation="keep",
            watermark=mark,
            gps=True,
        )
    }


def test_pixels_are_made_plainly_where_the_file_says_nothing(tmp_path: Path) -> None:
    assert load_config(written(tmp_path)).images == {}
    plain = load_config(written(tmp_path, images())).images["default"]
    assert (plain.effort, plain.sharpen, plain.background) == ("balanced", False, "#ffffff")
    assert (plain.animation, plain.watermark, plain.gps) == ("first_frame", None, False)


def test_images_of_a_preset_of_the_file_are_accepted(tmp_path: Path) -> None:
    own = {"variants": {"avatars": {"thumb": THUMB}}, "images": {"avatars": {"effort": "speed"}}}
    assert load_config(written(tmp_path, lambda d: d.update(own))).images["avatars"].effort == "speed"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("brand/mark.png", "brand/mark.png"),
        ("./x/../mark.png", "mark.png"),
        ("/srv/mark.png", "/srv/mark.png"),
    ],
)
def test_a_watermark_is_looked_for_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mark = load_config(written(tmp_path, watermark(image=given))).images["default"].watermark
    assert mark is not None
    assert mark.image == tmp_path / meant
    assert mark.opacity == 0.5


def test_a_dotenv_file_adds_to_the_environment_but_never_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SHOP_DATABASE_URL=sqlite:////from/dotenv\nAWS_REGION=dotenv-region\n")
    monkeypatch.setenv("AWS_REGION", "real-region")
    config = load_config(written(tmp_path, lambda d: d["store"].pop("region")))
    assert database_url(config) == "sqlite:////from/dotenv"
    assert config.store.region == "real-region"


def test_an_unset_database_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\$SHOP_DATABASE_URL"):
        database_url(load_config(written(tmp_path)))


def test_no_secret_is_part_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DATABASE_URL", "postgresql://shop:hunter2@db/shop")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    (tmp_path / ".env").write_text("SOME_TOKEN=hunter4\n")
    monkeypatch.setenv("SOME_TOKEN", "hunter4")
    config = load_config(written(tmp_path))
    assert "hunter" not in repr(config) + str(config) + config.model_dump_json()


UNITS = {"": 1, "B": 1, "KB": 1024, "KiB": 1024, "MB": 1024**2, "MiB": 1024**2, "GB": 1024**3, "GiB": 1024**3}


@given(
    number=st.integers(0, 10**9),
    unit=st.sampled_from(sorted(UNITS)),
    gap=st.sampled_from(["", " ", "   "]),
    upper=st.booleans(),
)
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, gap: str, upper: bool) -> None:
    text = f" {number}{gap}{unit.upper() if upper else unit.lower()} "
    assert parse_size(text) == number * UNITS[unit]
    assert parse_size(number) == number


@given(st.one_of(st.text(max_size=30), st.floats(), st.none(), st.booleans(), st.binary(max_size=4)))
def test_what_is_no_size_is_refused_with_a_value_error(value: object) -> None:
    try:
        size = parse_size(value)
    except ValueError:
        return
    assert isinstance(size, int)
    assert isinstance(value, str)
    assert value.strip()[0].isdigit()


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo_pipeline.yaml"
    path.write_text("version: 1\nversion: 2\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="'version' is given twice"):
        load_config(path)


def where(op: str, value: object = None, column: str = "disk") -> dict[str, Any]:
    return {"column": column, "op": op, "value": value}


APART = [
    (where("eq", "local"), where("eq", "s3")),
    (where("eq", "local"), where("in", ["s3", "gcs"])),
    (where("eq", "local"), where("ne", "local")),
    (where("in", [1, 2]), where("not_in", [1, 2, 3])),
    (where("not_null"), where("is_null")),
    (where("like", "/a/%"), where("like", "/b/%")),
    (where("like", "/a/%"), where("eq", "/b/1.jpg")),
]
NOT_APART = [
    (where("eq", "local"), where("eq", "s3", "other")),
    (where("eq", "local"), where("eq", "LOCAL ")),  # as some collations have it
    (where("eq", 1), where("eq", "1.0")),
    (where("eq", "local"), where("ne", "LOCAL")),
    (where("in", [1, 2]), where("in", [2, 3])),
    (where("in", [1, 2]), where("not_in", [1])),
    (where("like", "/a/%"), where("like", "/a/b/%")),
    (where("like", "/a/%"), where("like", "%/b/%")),
    (where("like", "/A/%"), where("eq", "/a/1.jpg")),
    (where("like", "05%"), where("eq", "05")),
    (where("gt", 1), where("lt", 1)),  # true, and not worth the words
]


@pytest.mark.parametrize(("one", "other"), [*APART, *NOT_APART])
def test_two_sources_of_a_table_must_be_told_apart(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    for first, second in [(one, other), (other, one)]:
        path = written(
            tmp_path,
            lambda d: d.update(
                sources=[
                    source(d) | {"name": name, "where": [condition]}
                    for name, condition in (("first", first), ("second", second))  # noqa: B023
                ]
            ),
        )
        if (one, other) in APART:
            assert len(load_config(path).sources) == 2
        else:
            with pytest.raises(ConfigurationError, match="both write column 'url' of table 'photos'"):
                load_config(path)


def test_two_sources_may_share_a_table_if_not_a_column(tmp_path: Path) -> None:
    rewrite = {"mode": "url"}
    path = written(
        tmp_path,
        lambda d: d["sources"].append(
            source(d) | {"name": "more", "fields": [OTHER_FIELD], "rewrite": rewrite}
        ),
    )
    assert len(load_config(path).sources) == 2
