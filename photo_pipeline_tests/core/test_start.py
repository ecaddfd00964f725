"""What a process that uploads does not load: it would wait for it before its first request."""

import subprocess
import sys

_HEAVY = (
    *("numpy", "pandas", "pyarrow", "scipy", "alembic", "sqlalchemy.dialects.postgresql"),
    *("jinja2", "tenacity"),
)


def test_an_upload_starts_without_encoders_migrations_templates_and_the_other_databases_drivers() -> None:
    program = (
        "import sys, photo_pipeline.core.project, photo_pipeline.core.migration.upload\n"
        f"print([name for name in {_HEAVY} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
