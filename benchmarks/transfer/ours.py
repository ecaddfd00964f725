"""One round of ours, in a process of its own: `upload_batch` as the asset and the command call it, per batch.

Prints the seconds that it took, and the requests, as JSON.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from photo_pipeline.core.garbage import collect_rarely


def main() -> None:
    # As the command begins.
    collect_rarely()
    from photo_pipeline.core.migration.lease import BatchLease
    from photo_pipeline.core.migration.upload import upload_batch
    from photo_pipeline.core.project import Project

    sent = []
    with Project.load(Path(sys.argv[1])) as project:
        started = time.perf_counter()
        for batch in sys.argv[2:]:
            with BatchLease(project.database, batch, run="bench") as lease:
                sent.append(
                    upload_batch(project.database, project.config, lease, project.store, project.workers)
                )
        seconds = time.perf_counter() - started
    requests: Counter[str] = Counter()
    for each in sent:
        requests.update(each.requests)
    answer = {
        "seconds": seconds,
        "uploaded": sum(each.uploaded for each in sent),
        "requests": dict(requests),
        "verification": sent[0].verification,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
