"""One round of ours, in a process of its own: `upload_batch` as the asset and the command call it.

Prints the seconds that it took, and the requests, as JSON.
"""

import json
import sys
import time
from pathlib import Path

from photo_pipeline.core.garbage import collect_rarely


def main() -> None:
    # As the command begins.
    collect_rarely()
    from photo_pipeline.core.migration.lease import BatchLease
    from photo_pipeline.core.migration.upload import upload_batch
    from photo_pipeline.core.project import Project

    with Project.load(Path(sys.argv[1])) as project:
        started = time.perf_counter()
        with BatchLease(project.database, sys.argv[2], run="bench") as lease:
            sent = upload_batch(project.database, project.config, lease, project.store, project.workers)
        seconds = time.perf_counter() - started
    answer = {
        "seconds": seconds,
        "uploaded": sent.uploaded,
        "requests": sent.requests,
        "verification": sent.verification,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
