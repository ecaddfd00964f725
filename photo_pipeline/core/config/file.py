"""Finds and reads the configuration file: one YAML, validated as a whole before anything is opened."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from photo_pipeline.core.config.environment import load_dotenv, with_environment
from photo_pipeline.core.config.images import WatermarkSettings
from photo_pipeline.core.config.pipeline import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError

DEFAULT_CONFIG_NAME = "photo_pipeline.yaml"
CONFIG_ENV = "PHOTO_PIPELINE_CONFIG"
# Problems that one message names; more are counted.
_SHOWN = 5


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


def load_config(path: Path, *, needs_cdn: bool = True, needs_sources: bool = True) -> PipelineConfig:
    """Read, validate and complete the configuration at `path`.

    With `needs_cdn` False it may leave the CDN's URL out, which is not known before the CDN is set up; with
    `needs_sources` False it may name no source, as before `mapping suggest` has proposed any.

    Relative folders are taken relative to the file. Variables of a `.env` beside the file are added to the
    environment where they are not set already (so the demo's credentials need no shell set-up).

    Raises:
        ConfigurationError: the file is unreadable, is not YAML, or does not validate; the message names the
            offending keys, the first few of many.
    """
    load_dotenv(path.parent / ".env")
    document = _read_yaml(path)
    try:
        config = PipelineConfig.model_validate(document)
    except ValidationError as error:
        raise _as_configuration_error(path, error) from error
    if needs_sources and not config.sources:
        raise ConfigurationError(
            f"{path}: sources",
            cause="it names no source: no table whose rows name photos",
            fix="let `photo-pipeline mapping suggest` propose them from your database, and check them",
        )
    return _with_absolute_paths(with_environment(config, needs_cdn=needs_cdn), base=path.parent)


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from yaml import SafeLoader as _Loader
else:  # libyaml reads a configuration in a tenth of the time, where PyYAML was built with it.
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_Loader):
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
    (place, message), *others = (_place_and_message(problem) for problem in problems[:_SHOWN])
    cause = "; ".join([message, *(f"{where}: {what}" for where, what in others)])
    if len(problems) > _SHOWN:
        cause += f" (and {len(problems) - _SHOWN} more)"
    fix = "mend that setting" if len(problems) == 1 else "mend these settings"
    return ConfigurationError(f"{path}: {place}", cause=cause, fix=fix)


def _place_and_message(problem: "ErrorDetails") -> tuple[str, str]:
    place = ".".join(str(part) for part in problem["loc"]) or "the file as a whole"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if problem["type"] == "extra_forbidden":
        message = "this key is not known"
    return place, message[:1].lower() + message[1:]


def _with_absolute_paths(config: PipelineConfig, *, base: Path) -> PipelineConfig:
    state = config.state
    return config.model_copy(
        update={
            "roots": tuple(
                root.model_copy(update={"dir": _absolute(base, root.dir)}) for root in config.roots
            ),
            "images": {
                name: each.model_copy(update={"watermark": _beside(base, each.watermark)})
                for name, each in config.images.items()
            },
            "state": state.model_copy(
                update={
                    "counted_dir": _absolute(base, state.counted_dir),
                    "staging_dir": _absolute(base, state.staging_dir),
                    "report_dir": _absolute(base, state.report_dir),
                    "backup_dir": _absolute(base, state.backup_dir),
                }
            ),
        }
    )


def _beside(base: Path, mark: WatermarkSettings | None) -> WatermarkSettings | None:
    return mark and mark.model_copy(update={"image": _absolute(base, mark.image)})


def _absolute(base: Path, path: Path) -> Path:
    # Not resolve(): a root that is itself a symlink keeps the name the application knows it by.
    return Path(os.path.normpath(base / path.expanduser()))
