"""How many examples Hypothesis makes: a third of them in `make test`, all of them in `make test-all`."""

from typing import Any

import hypothesis
import pytest

_SHARE, _DEFAULT = 3, 100


class _Wanted:
    """Whether the slow tests are left out; known before any test module is read."""

    share = 1


def configure(config: pytest.Config) -> None:
    """Choose by the session's `-m`; nothing depends on how busy the machine is."""
    if "not slow" in (config.option.markexpr or ""):
        _Wanted.share = _SHARE
    hypothesis.settings.register_profile(
        "suite",
        hypothesis.settings.default,
        max_examples=_DEFAULT // _Wanted.share,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("suite")


def examples(count: int, **more: Any) -> hypothesis.settings:
    """Return settings with so many examples, for tests that want another number than the usual 100."""
    return hypothesis.settings(max_examples=count // _Wanted.share, **more)
