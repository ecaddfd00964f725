"""A third S3 server for tests: Ceph RGW from Debian's packages, with one monitor and one disk in memory.

Where its files are is said by $PHOTO_PIPELINE_CEPH (docs/s3-servers.md tells how to unpack them); nothing is
installed, no service is started, everything ends with the test.
"""

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from photo_pipeline.demo.s3_signature import REGION
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.sockets import free_port

ROOT_VARIABLE = "PHOTO_PIPELINE_CEPH"
_READY_S = 60.0
# What `ceph osd new` says to the monitor; the command itself needs more packages.
_NEW_OSD = """
import json, os, rados, sys
with rados.Rados(conffile=os.environ["CEPH_CONF"]) as cluster:
    asked, secret = {"prefix": "osd new", "uuid": sys.argv[1]}, {"cephx_secret": sys.argv[2]}
    code, _, text = cluster.mon_command(json.dumps(asked), json.dumps(secret).encode())
sys.exit(text if code else 0)
"""


def ceph_root() -> Path | None:
    """Return where Ceph is unpacked, or None if it is not."""
    root = Path(os.environ.get(ROOT_VARIABLE, "/nonexistent"))
    return root if (root / "usr/bin/radosgw").is_file() else None


@dataclass
class CephServer:
    """One monitor, one OSD that keeps everything in memory, one gateway; all on 127.0.0.1."""

    root: Path
    folder: Path
    bucket: str
    access_key: str
    port: int = field(default_factory=free_port)
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def servers(self) -> RunningServers:
        """The gateway, in the words of the other servers; it has no CDN."""
        return RunningServers(
            s3_url=f"http://127.0.0.1:{self.port}",
            cdn_url="",
            bucket=self.bucket,
            access_key=self.access_key,
            region=REGION,
            pid=self._processes[-1].pid,
            instance="ceph",
            started_at="",
            data_dir=str(self.folder),
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of monitor, OSD and gateway."""
        return tuple(process.pid for process in self._processes)

    @classmethod
    def start(
        cls, root: Path, folder: Path, *, bucket: str, access_key: str, secret_key: str
    ) -> "CephServer":
        server = cls(root, folder, bucket, access_key)
        try:
            server._boot()
            server._run(
                "radosgw-admin",
                "user",
                "create",
                "--uid=test",
                "--display-name=test",
                f"--access-key={access_key}",
                f"--secret-key={secret_key}",
            )
            server._serve()
        except BaseException:
            server.stop()
            raise
        return server

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _boot(self) -> None:
        fsid, v2, v1 = str(uuid.uuid4()), free_port(), free_port()
        monitor = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        (self.folder / "ceph.conf").write_text(self._configuration(fsid, monitor), encoding="ascii")
        monmap = self.folder / "monmap"
        self._run("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, str(monmap))
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        keyring = str(self.folder / "keyring")
        everything = [word for who in ("mon", "osd", "mgr") for word in ("--cap", who, "allow *")]
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *everything)
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap), "--keyring", keyring)
        self._start("ceph-mon", "-f", "-i", "a")
        osd = str(uuid.uuid4())
        secret = self._run("ceph-authtool", "--gen-print-key").strip()
        self._run(sys.executable, "-c", _NEW_OSD, osd, secret)
        self._run("ceph-authtool", keyring, "-n", "osd.0", "--add-key", secret)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start("ceph-osd", "-f", "-i", "0")

    def _serve(self) -> None:
        self._start("radosgw", "-f", "-n", "client.admin")
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            try:
                urllib3.request("GET", f"http://127.0.0.1:{self.port}", retries=False, timeout=5)
                return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.1)
        raise RuntimeError("radosgw did not start; see its log in the test's folder")

    def _configuration(self, fsid: str, monitor: str) -> str:
        libraries = self.root / "usr/lib/x86_64-linux-gnu"
        settings = {
            "fsid": fsid,
            "mon host": monitor,
            **{f"auth {name} required": "cephx" for name in ("cluster", "service", "client")},
            "keyring": self.folder / "keyring",
            "run dir": self.folder,
            "admin socket": self.folder / "$name.asok",
            "log file": self.folder / "$name.log",
            "mon cluster log file": self.folder / "cluster.log",
            "pid file": self.folder / "$name.pid",
            "crash dir": self.folder,
            "mon data": self.folder / "mon",
            "osd data": self.folder / "osd",
            "rgw data": self.folder,
            "osd objectstore": "memstore",
            "memstore device bytes": 1024**3,
            "osd class dir": libraries / "rados-classes",
            "plugin dir": libraries / "ceph",
            "erasure code dir": libraries / "ceph/erasure-code",
            "osd crush chooseleaf type": 0,
            "osd pool default size": 1,
            "osd pool default min size": 1,
            "osd pool default pg num": 1,
            "osd pool default pgp num": 1,
            "osd pool default pg autoscale mode": "off",
            "mon allow pool size one": "true",
            "public addr": "127.0.0.1",
            "cluster addr": "127.0.0.1",
            "rgw frontends": f"beast endpoint=127.0.0.1:{self.port}",
            "rgw dns name": "localhost",
            "osd max object name len": 2048,
            "osd max object namespace len": 512,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        return "\n".join(["[global]", *lines, ""])

    def _environment(self) -> dict[str, str]:
        libraries = self.root / "usr/lib/x86_64-linux-gnu"
        paths = (libraries, libraries / "ceph", self.root / "lib/x86_64-linux-gnu")
        return {
            **os.environ,
            "CEPH_CONF": str(self.folder / "ceph.conf"),
            "LD_LIBRARY_PATH": ":".join(map(str, paths)),
            "PYTHONPATH": str(self.root / "usr/lib/python3/dist-packages"),
        }

    def _command(self, name: str, arguments: tuple[str, ...]) -> list[str]:
        program = self.root / "usr/bin" / name
        return [str(program) if program.is_file() else name, *arguments]

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            self._command(name, arguments),
            env=self._environment(),
            capture_output=True,
            timeout=_READY_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"{name} {' '.join(arguments)}: {done.stderr.decode(errors='replace')[-2000:]}"
            )
        return done.stdout.decode()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("wb") as log:
            process = subprocess.Popen(
                self._command(name, arguments), env=self._environment(), stdout=log, stderr=log
            )
        self._processes.append(process)
