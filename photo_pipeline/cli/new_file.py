"""Writes a file that a command makes for a person, who may have one there already."""

from pathlib import Path

from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError


def write_new(output: Path, text: str) -> None:
    """Write a text to a file that does not exist yet.

    Raises:
        GuardRefusedError: It exists.
        ConfigurationError: It cannot be written.
    """
    try:
        with output.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise GuardRefusedError(
            str(output), cause="it exists already", fix="name another file with --output, or remove it first"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            str(output),
            cause=f"it cannot be written ({error.strerror})",
            fix="name another file with --output",
        ) from error
