"""The `photo-pipeline` command: every operation without a Dagster server.

One module per command or group of commands, thin: parse, call the core, print; `program` lists them. How
output looks is `photo_pipeline.terminal`.

Exit codes: 0 done; 1 finished with findings; 2 usage or configuration; 3 refused by a guard; 4 something
outside is down (run again to continue).
"""

from photo_pipeline.cli.program import app, main

__all__ = ["app", "main"]
