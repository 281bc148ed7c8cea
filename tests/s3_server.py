"""A real S3 server on this machine: SeaweedFS, whose gateway can be stopped and started again on its port.

It checks signatures and checksums, takes uploads in parts, and refuses buckets that do not exist. The gateway is a
process of its own, so that an outage takes no time; what it serves lies in the directory that the server is made with.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

KEY, SECRET, BUCKET = "key", "secret", "bucket"
PROGRAM = Path(sys.executable).with_name("weed")
ROLES = ("master", "volume", "filer", "s3")


class S3Server:
    """SeaweedFS on free ports of 127.0.0.1, with one user; its files lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = _free_ports(2 * len(ROLES))
        self._http, self._grpc = dict(zip(ROLES, ports)), dict(zip(ROLES, ports[len(ROLES) :]))
        self._storage: subprocess.Popen[bytes] | None = None
        self._gateway: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._http['s3']}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def open(self) -> None:
        """Start all of it and make the bucket."""
        user = {"name": "user", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (self.folder / "users.json").write_text(json.dumps({"identities": [user]}))
        roles = ("master", "volume", "filer")
        self._storage = self._run(
            "server",
            "-ip=127.0.0.1",
            f"-dir={self.folder}",
            "-filer",
            f"-filer.localSocket={self.folder}/filer.sock",
            "-master.telemetry=false",
            *(f"-{role}.port={self._http[role]}" for role in roles),
            *(f"-{role}.port.grpc={self._grpc[role]}" for role in roles),
        )
        self._wait(self._storage, *(ports[role] for role in roles for ports in (self._http, self._grpc)))
        self.start()
        self._make_bucket()

    def start(self) -> None:
        """Serve; the port is the same every time."""
        assert self._gateway is None
        self._gateway = self._run(
            "s3",
            f"-filer=127.0.0.1:{self._http['filer']}.{self._grpc['filer']}",
            f"-port={self._http['s3']}",
            f"-port.grpc={self._grpc['s3']}",
            "-port.iceberg=0",
            "-port.lance=0",
            f"-localSocket={self.folder}/s3.sock",
            f"-config={self.folder}/users.json",
            "-autoCreateBucket=false",
        )
        self._wait(self._gateway, self._http["s3"])

    def stop(self) -> None:
        """Serve no longer: connections are refused."""
        assert self._gateway is not None
        self._gateway.kill()
        self._gateway.wait()
        self._gateway = None

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Not served while the body runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def close(self) -> None:
        """End all of it."""
        for process in filter(None, (self._gateway, self._storage)):
            process.kill()
            process.wait()
        for role, port in self._grpc.items():
            Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock").unlink(missing_ok=True)

    def _run(self, command: str, *flags: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [PROGRAM, command, "-ip.bind=127.0.0.1", *flags],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"TMPDIR": str(self.folder)},
            )

    def _wait(self, process: subprocess.Popen[bytes], *ports: int) -> None:
        for port in ports:
            for _ in range(1500):
                assert process.poll() is None, self._log.read_text()[-2000:]
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            else:
                raise TimeoutError(f"nothing listens at port {port}: {self._log.read_text()[-2000:]}")

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _make_bucket(self) -> None:
        from pyarrow.fs import S3FileSystem

        files = S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            region="us-east-1",
            endpoint_override=self.environment["AWS_ENDPOINT_URL"],
            allow_bucket_creation=True,
        )
        files.create_dir(BUCKET)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with an empty bucket, whose files lie in ``folder``."""
    server = S3Server(folder)
    try:
        server.open()
        yield server
    finally:
        server.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[S3Server]:
    """The same, with the environment that reaches it while the context lasts."""
    with s3_server(folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
        os.environ.pop("AWS_REQUEST_CHECKSUM_CALCULATION", None)  # set by the first that connects
