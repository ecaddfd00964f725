"""The configuration file: one YAML, validated as a whole before anything is opened.

Holds the settings of store, CDN, variants, batches and state, and the source mapping (its models live in
`core.sources.mapping`). Reading a file and resolving environment variables happen here and only here;
secrets are never part of the file. Opening databases or stores does not belong here.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.mapping import Root, Source

DEFAULT_CONFIG_NAME = "photo_pipeline.yaml"
CONFIG_ENV = "PHOTO_PIPELINE_CONFIG"

# Binary multiples: the variant budget "100 KB" is 102,400 bytes (facts/imaging.md).
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1024,
    "kib": 1024,
    "mb": 1024**2,
    "mib": 1024**2,
    "gb": 1024**3,
    "gib": 1024**3,
}
# ASCII digits, and few enough of them that no float overflows.
_SIZE = re.compile(r"^\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([a-z]*)\s*$", re.IGNORECASE)


def parse_size(value: object) -> int:
    """Turn `102400` or `"100 KB"` into bytes (KB = 1,024 bytes).

    Raises:
        ValueError: the text is not a number with an optional unit of B, KB, MB or GB.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(
            f"{value!r} is not a size; write bytes or a number with B, KB, MB or GB, as in 100 KB"
        )
    return round(float(match[1]) * _UNITS[match[2].lower()])


SizeBytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Settings):
    """Where the application's database is; the URL itself stays in the environment."""

    env: str = Field(description="Name of the environment variable that holds the SQLAlchemy URL.")


class StoreSettings(_Settings):
    """The S3 (or compatible) bucket that receives the objects."""

    bucket: str = Field(
        default="", description="Bucket name; AWS_S3_BUCKET_NAME is used when it is left out."
    )
    region: str = Field(default="", description="Bucket region; AWS_REGION is used when it is left out.")
    endpoint_url: str | None = Field(default=None, description="For S3-compatible servers; null means AWS.")
    prefix: str = Field(default="photos", description="Key prefix of the variants that the CDN serves.")
    originals: Literal["keep", "discard"] = Field(
        default="keep", description="Keep the untouched original under originals_prefix."
    )
    originals_prefix: str = Field(
        default="originals", description="Key prefix of the originals; the CDN must never serve it."
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default="AES256", description="Server-side encryption; null leaves it to the bucket's default."
    )

    @model_validator(mode="after")
    def _prefixes_are_apart(self) -> Self:
        for name in ("prefix", "originals_prefix"):
            value = getattr(self, name)
            if not re.fullmatch(r"(?!\.+(/|$))[A-Za-z0-9._-]+(/(?!\.+(/|$))[A-Za-z0-9._-]+)*", value):
                raise ValueError(
                    f"{name} {value!r} must be plain path segments without a slash at either end"
                )
        first, second = f"{self.prefix}/", f"{self.originals_prefix}/"
        if first.startswith(second) or second.startswith(first):
            raise ValueError(
                "prefix and originals_prefix must not contain each other: the CDN serves only one"
            )
        return self


class CdnSettings(_Settings):
    """The delivery side: the base URL that rewritten rows will carry."""

    base_url: str = Field(
        default="", description="https://… without a path; https://AWS_CLOUDFRONT_DOMAIN when left out."
    )
    distribution_id: str | None = Field(default=None, description="CloudFront distribution id.")


class VariantSettings(_Settings):
    """One web variant of each photo."""

    fit: Literal["inside", "cover"] = Field(
        description="inside: fit within the box; cover: fill it and crop."
    )
    width: int = Field(gt=0, le=10_000, description="Box width in pixels.")
    height: int = Field(gt=0, le=10_000, description="Box height in pixels.")
    max_bytes: SizeBytes | None = Field(default=None, description="Byte target per file, e.g. 100 KB.")
    crop: Literal["attention", "center"] = Field(
        default="attention", description="Where cover crops: around the subject, or in the middle."
    )


class WatermarkSettings(_Settings):
    """A mark that is laid over every variant of a preset."""

    image: Path = Field(description="Its file, best a PNG with transparency.")
    opacity: float = Field(default=0.5, gt=0, le=1, description="How strongly it covers.")
    position: Literal["bottom-right", "bottom-left", "top-right", "top-left", "center"] = "bottom-right"
    scale: float = Field(default=0.2, gt=0, le=1, description="Its width as a share of the variant's.")
    margin: float = Field(default=0.02, ge=0, lt=0.5, description="Distance from the edges, as a share.")


class ImageSettings(_Settings):
    """How a preset's pixels are made."""

    effort: Literal["speed", "balanced", "quality"] = Field(
        default="balanced", description="How much time an AVIF may cost: about 0.2, 0.3 or 1.3 s of a core."
    )
    # Off: at the same bytes it costs quality by every metric, and fidelity to what the photographer made.
    sharpen: bool = Field(default=False, description="Sharpen variants of 800 px and more lightly.")
    background: str = Field(
        default="#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="Shown through transparency in JPEG."
    )
    animation: Literal["first_frame", "keep"] = Field(
        default="first_frame", description="keep: animations stay animated in WebP and AVIF."
    )
    watermark: WatermarkSettings | None = None
    gps: bool = Field(
        default=False, description="Keep the photos' GPS position in the catalog; never in the variants."
    )


class BatchSettings(_Settings):
    """How photos are grouped into partitions."""

    size: int = Field(default=100, gt=0, le=10_000, description="Photo references per batch.")


class InventorySettings(_Settings):
    """Limits of what the inventory accepts."""

    max_file_bytes: SizeBytes = Field(
        default=50 * 1024**2, description="Larger files are classed too_large, e.g. 50 MB."
    )


class WorkerSettings(_Settings):
    """Limits of the image worker processes, per photo."""

    processes: int | None = Field(default=None, gt=0, description="Worker processes; null: one per core.")
    timeout_s: float = Field(default=30, gt=0, description="Seconds before a photo's worker is killed.")
    memory_bytes: SizeBytes = Field(default=512 * 1024**2, description="Memory growth allowed per photo.")
    max_pixels: int = Field(
        default=100_000_000,
        gt=0,
        le=178_956_970,  # Pillow's own ceiling
        description="Photos with more pixels are refused from their header, before they are decoded.",
    )


class QualitySettings(_Settings):
    """How the variants' looks are measured (by ssimulacra2), and when to warn."""

    # To measure a photo of 1200 px in three formats takes 5 to 6 s of a core, to make them 0.5 s: 2 % are two
    # photos of a batch of 100, for a fifth of the batch's time.
    sample: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Share of each batch's photos that is measured, at least one; 0 switches it off. "
        "Of each, every format of the largest variant with fit `inside`.",
    )
    # The metric's author calls 30 low, 50 medium and 70 high quality. At 100 KB, photos have 69 to 75 on
    # average (facts/imaging.md); what falls below 50 is worth a look, and perhaps a larger byte target.
    floor: float = Field(
        default=50.0,
        le=100,
        allow_inf_nan=False,
        description="Points of ssimulacra2 below which a measured variant is warned about: "
        "90 visually lossless, 70 high, 50 medium, 30 low quality.",
    )


class UploadSettings(_Settings):
    """How objects travel."""

    concurrency: int = Field(default=16, gt=0, le=128, description="Parallel uploads.")


class RewriteSettings(_Settings):
    """How rows are changed."""

    rows_per_transaction: int = Field(default=100, gt=0, description="Rows per database transaction.")


class StateSettings(_Settings):
    """Where working files live."""

    staging_dir: Path = Field(
        default=Path(".photo_pipeline/staging"), description="Variants wait here until they are uploaded."
    )
    report_dir: Path = Field(default=Path(".photo_pipeline/reports"), description="Reports are written here.")


class PlanLimits(_Settings):
    """A monthly budget in dollars."""

    monthly_usd: float = Field(gt=0, description="Dollars a month.")


class Limits(_Settings):
    """Spending limits; read and kept, enforced by the cost guard."""

    plan: Literal["aws-legacy-free-tier", "aws-credits"] | PlanLimits = Field(
        description="aws-legacy-free-tier, aws-credits, or {monthly_usd: N}."
    )


def _widths(targets: Mapping[int, int | None]) -> dict[str, VariantSettings]:
    """Variants by width alone: the box is as high as a box may be."""
    return {
        f"w{width}": VariantSettings(fit="inside", width=width, height=10_000, max_bytes=target)
        for width, target in targets.items()
    }


_THUMB = VariantSettings(fit="cover", width=150, height=150)

# PRODUCT B1. The responsive byte targets follow the default's 100 KB at 1200 px by the pixels to the power
# of 0.8, as photographs' bytes do at equal quality.
DEFAULT_VARIANTS: Mapping[str, Mapping[str, VariantSettings]] = {
    "default": {
        "full": VariantSettings(fit="inside", width=1200, height=1200, max_bytes=102_400),
        "thumb": _THUMB,
    },
    "responsive": _widths({300: 11_264, 400: 17_408, 800: 53_248, 1200: 102_400, 1600: 162_816})
    | {"thumb": _THUMB},
    "original": {
        "full": VariantSettings(fit="inside", width=4000, height=4000),
        "thumb": _THUMB,
    },
}


class PipelineConfig(_Settings):
    """The whole configuration, valid as a unit; paths are absolute after `load_config`."""

    version: Literal[1] = Field(description="Version of this file's format.")
    database: DatabaseSettings
    roots: tuple[Root, ...] = Field(min_length=1)
    sources: tuple[Source, ...] = Field(min_length=1)
    store: StoreSettings = StoreSettings()
    cdn: CdnSettings = CdnSettings()
    variants: Annotated[
        Mapping[str, Mapping[str, VariantSettings]], AfterValidator(lambda own: {**DEFAULT_VARIANTS, **own})
    ] = Field(default=DEFAULT_VARIANTS, description="Presets by name, beside the shipped ones.")
    images: Mapping[str, ImageSettings] = Field(
        default_factory=dict, description="How pixels are made, by preset; one left out has the defaults."
    )
    batches: BatchSettings = BatchSettings()
    inventory: InventorySettings = InventorySettings()
    workers: WorkerSettings = WorkerSettings()
    quality: QualitySettings = QualitySettings()
    upload: UploadSettings = UploadSettings()
    rewrite: RewriteSettings = RewriteSettings()
    limits: Limits | None = None
    state: StateSettings = StateSettings()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        _require_unique("roots", [root.name for root in self.roots])
        _require_unique("sources", [source.name for source in self.sources])
        roots = {root.name for root in self.roots}
        unknown = sorted(self.images.keys() - self.variants.keys())
        if unknown:
            raise ValueError(f"images: preset {unknown[0]!r} is not among {sorted(self.variants)}")
        for source in self.sources:
            source.check_against(roots=roots, presets=self.variants)
        return self

    def root(self, name: str) -> Root:
        """Return the root called `name` (its existence was checked when the file was loaded)."""
        return next(root for root in self.roots if root.name == name)

    def source(self, name: str) -> Source:
        """Return the source called `name`.

        Raises:
            ConfigurationError: the file no longer has such a source, although the state tables do.
        """
        for source in self.sources:
            if source.name == name:
                return source
        raise ConfigurationError(
            f"source {name!r}",
            cause="the state tables hold photos of it but the configuration no longer names it",
            fix="put the source back, or roll its photos back first",
        )


def _require_unique(where: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: the name {twice[0]!r} is used twice")


def find_config(explicit: str | Path | None = None) -> Path:
    """Return the configuration file's path: the given one, $PHOTO_PIPELINE_CONFIG, or ./photo_pipeline.yaml.

    Raises:
        ConfigurationError: no such file.
    """
    path = Path(explicit or os.environ.get(CONFIG_ENV) or DEFAULT_CONFIG_NAME)
    if not path.is_file():
        raise ConfigurationError(
            str(path),
            cause="there is no configuration file at this path",
            fix=f"write one with `photo-pipeline init`, or name it with --config or ${CONFIG_ENV}",
        )
    return path.resolve()


def load_config(path: Path) -> PipelineConfig:
    """Read, validate and complete the configuration at `path`.

    Relative folders are taken relative to the file. Variables of a `.env` beside the file are added to the
    environment where they are not set already (so the demo's credentials need no shell set-up).

    Raises:
        ConfigurationError: the file is unreadable, is not YAML, or does not validate; the message names the
            first offending key and how many more there are.
    """
    _load_dotenv(path.parent / ".env")
    document = _read_yaml(path)
    try:
        config = PipelineConfig.model_validate(document)
    except ValidationError as error:
        raise _as_configuration_error(path, error) from error
    return _completed(config, base=path.parent)


def _load_dotenv(path: Path) -> None:
    if path.is_file():
        for name, value in dotenv_values(path).items():
            if value is not None:
                os.environ.setdefault(name, value)


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, value in node.value:
            if keys.count(key.value) > 1 and key.tag != "tag:yaml.org,2002:merge":
                problem = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, value.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ConfigurationError(str(path), cause=f"it cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ConfigurationError(
            str(path), cause=f"it is not valid YAML ({where})", fix="mend that line"
        ) from error
    if not isinstance(document, dict):
        raise ConfigurationError(
            str(path), cause="it holds no settings", fix="start from `photo-pipeline init`"
        )
    return document


def _as_configuration_error(path: Path, error: ValidationError) -> ConfigurationError:
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "extra_forbidden":
        message = "this key is not known"
    more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
    return ConfigurationError(
        f"{path}: {place}", cause=message[:1].lower() + message[1:] + more, fix="mend that setting"
    )


def _completed(config: PipelineConfig, *, base: Path) -> PipelineConfig:
    """Fill in what the environment may provide, and make every path absolute."""
    environment = os.environ
    domain = environment.get("AWS_CLOUDFRONT_DOMAIN", "").removeprefix("https://")
    bucket = config.store.bucket or environment.get("AWS_S3_BUCKET_NAME", "")
    base_url = config.cdn.base_url or (f"https://{domain}" if domain else "")
    region = config.store.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if not bucket:
        raise ConfigurationError(
            "store.bucket", cause="no bucket is named", fix="set it in the file or set $AWS_S3_BUCKET_NAME"
        )
    if not re.match(r"^https?://[^/]+", base_url):
        raise ConfigurationError(
            "cdn.base_url",
            cause=f"{base_url!r} is not an http(s) URL" if base_url else "no CDN URL is named",
            fix="set it in the file, as in https://cdn.example.com, or set $AWS_CLOUDFRONT_DOMAIN",
        )
    state = config.state
    return config.model_copy(
        update={
            "store": config.store.model_copy(update={"bucket": bucket, "region": region or "us-east-1"}),
            "cdn": config.cdn.model_copy(update={"base_url": base_url.rstrip("/")}),
            "roots": tuple(
                root.model_copy(update={"dir": _absolute(base, root.dir)}) for root in config.roots
            ),
            "images": {
                name: each.model_copy(update={"watermark": _beside(base, each.watermark)})
                for name, each in config.images.items()
            },
            "state": state.model_copy(
                update={
                    "staging_dir": _absolute(base, state.staging_dir),
                    "report_dir": _absolute(base, state.report_dir),
                }
            ),
        }
    )


def _beside(base: Path, mark: WatermarkSettings | None) -> WatermarkSettings | None:
    return mark and mark.model_copy(update={"image": _absolute(base, mark.image)})


def _absolute(base: Path, path: Path) -> Path:
    # Not resolve(): a root that is itself a symlink keeps the name the application knows it by.
    return Path(os.path.normpath(base / path.expanduser()))


def database_url(config: PipelineConfig) -> str:
    """Return the application database's URL from the environment variable that the file names.

    Raises:
        ConfigurationError: the variable is not set.
    """
    url = os.environ.get(config.database.env)
    if not url:
        raise ConfigurationError(
            f"${config.database.env}",
            cause="the environment variable with the database URL is not set",
            fix=f"set it: export {config.database.env}=postgresql://user:password@host/name (or sqlite:////abs/path.db)",
        )
    return url
