"""What no program in Python with this client library can go below, as a process of its own: the named limit.

Reads each file, takes its SHA-256 and MD5 and puts it, in threads, and imports nothing but obstore for it:
no configuration, no database, no condition, no metadata, no proof, no record.
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import S3Store


def main() -> None:
    endpoint, bucket, prefix, folder, threads = sys.argv[1:]
    store = S3Store(
        bucket,
        endpoint=endpoint,
        region="us-east-1",
        virtual_hosted_style_request=False,
        checksum_algorithm="SHA256",
        client_options={"allow_http": True},
    )

    def send(file: Path) -> None:
        data = file.read_bytes()
        hashlib.sha256(data).hexdigest()
        hashlib.md5(data, usedforsecurity=False).hexdigest()
        obstore.put(store, f"{prefix}/{file.name}", data, use_multipart=False)

    with ThreadPoolExecutor(int(threads)) as pool:
        for _ in pool.map(send, sorted(Path(folder).iterdir())):
            pass


if __name__ == "__main__":
    main()
