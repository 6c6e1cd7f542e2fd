"""Fixtures of the end-to-end suite: a `tarn serve` process over a directory or over SeaweedFS, and the Vektonn client.

`cargo xtask e2e` runs it. TARN_BIN names the binary under test, TARN_WEED the S3 server. Nothing is skipped: a missing
variable is an error.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import pytest
from vektonn import Vektonn

DEADLINE_SECONDS = 60


def pytest_addoption(parser):
    parser.addoption("--store", choices=["disk", "s3"], default="disk", help="where the server keeps its data")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, what: str, process: subprocess.Popen, log: pathlib.Path):
    """Polls a condition until it holds; fails with the log when the process ends or the deadline passes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(f"{what}: the process ended with {process.returncode}\n{log.read_text()}")
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {DEADLINE_SECONDS} s\n{log.read_text()}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        # An S3 server refuses an unsigned request; that it refuses shows that it is up.
        return error.code == 403
    except OSError:
        return False


class SeaweedFs:
    """A real S3 server on loopback with a fresh directory."""

    access_key = "tarn-test"
    secret_key = "tarn-test-secret"
    bucket = "tarn"

    def __init__(self, directory: pathlib.Path):
        weed = os.environ["TARN_WEED"]
        self.port = free_port()
        self.log = directory / "weed.log"
        identities = directory / "identities.json"
        identities.write_text(
            json.dumps(
                {
                    "identities": [
                        {
                            "name": "tarn",
                            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
                            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                        }
                    ]
                }
            )
        )
        data = directory / "weed"
        data.mkdir()
        (directory / "weed-log").mkdir()
        master, volume, filer = free_port(), free_port(), free_port()
        grpc = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        command = [
            weed, f"-logdir={directory / 'weed-log'}", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={master}", f"-master.port.grpc={grpc['master']}",
            f"-volume.port={volume}", f"-volume.port.grpc={grpc['volume']}",
            "-filer", f"-filer.port={filer}", f"-filer.port.grpc={grpc['filer']}",
            "-s3", f"-s3.port={self.port}", f"-s3.port.grpc={grpc['s3']}", f"-s3.config={identities}", "-s3.port.iceberg=0",
            "-volume.max=200", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        ]
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{self.port}/"), "SeaweedFS starts", self.process, self.log)
            # A folder below /buckets of the filer is a bucket; made there, it needs no signed request.
            folder = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/{self.bucket}/", method="POST")
            urllib.request.urlopen(folder, timeout=DEADLINE_SECONDS).close()
        except BaseException:
            self.stop()
            raise

    @property
    def environment(self) -> dict:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def stop(self):
        # SeaweedFS takes long to end politely, and its directory is thrown away.
        self.process.kill()
        self.process.wait()


class TarnServer:
    """A `tarn serve` process."""

    def __init__(self, store: str, directory: pathlib.Path, environment: dict, arguments=()):
        self.store = store
        self.environment = {**os.environ, **environment}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"tarn-{self.port}.log"
        command = [os.environ["TARN_BIN"], "serve", "--store", store, "--listen", f"127.0.0.1:{self.port}", *arguments]
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT, env=self.environment)
        try:
            wait_until(lambda: answers(f"{self.url}/readyz"), "tarn serve starts", self.process, self.log)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def tarn(self, *arguments) -> subprocess.CompletedProcess:
        """Runs another command of the binary on the same store."""
        return subprocess.run(
            [os.environ["TARN_BIN"], *arguments, "--store", self.store],
            env=self.environment, capture_output=True, text=True, timeout=300, check=False,
        )

    def request(self, method: str, path: str, body=None, headers=None):
        """Sends JSON; gives status, headers, parsed body (None when empty)."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
                status, answer_headers, text = response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            status, answer_headers, text = error.code, error.headers, error.read()
        try:
            parsed = json.loads(text) if text else None
        except ValueError:
            parsed = text
        return status, answer_headers, parsed

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=DEADLINE_SECONDS)
        assert status == 0, f"tarn serve ended with {status} after SIGTERM\n{self.log.read_text()}"


@pytest.fixture(scope="session")
def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="tarn-e2e-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def place(request, directory):
    """Gives a store of its own for a name, and the environment that reaches it."""
    if request.config.getoption("--store") == "s3":
        weed = SeaweedFs(directory)
        try:
            yield lambda name: (f"s3://{SeaweedFs.bucket}/{name}", weed.environment)
        finally:
            weed.stop()
    else:
        yield lambda name: (str(directory / name), {})


@pytest.fixture(scope="session")
def server(place, directory):
    store, environment = place("store")
    tarn = TarnServer(store, directory, environment, ["--build-interval", "1s"])
    yield tarn
    tarn.stop()


@pytest.fixture(scope="session")
def client(server) -> Vektonn:
    return Vektonn(server.url)


ALL_TYPES = {"id": "Int64", "split": "String", "flag": "Bool", "score": "Float64", "uid": "Guid", "seen": "DateTime"}


class Defined:
    """A data source of its own for one test, with one index."""

    def __init__(self, server: TarnServer, algorithm: str, params=None, dimension=3, split=(), types=None, permanent=("id", "split")):
        self.server = server
        self.name = f"e2e-{uuid.uuid4().hex[:12]}"
        self.version = "1.0"
        self.dimension = dimension
        sparse = algorithm.startswith("Sparnn")
        types = types or ALL_TYPES
        status, _, answer = server.request(
            "PUT",
            f"/api/v1/data-sources/{self.name}/{self.version}",
            {
                "vectorDimension": dimension,
                "vectorsAreSparse": sparse,
                "attributeValueTypes": types,
                "permanentAttributes": list(permanent),
            },
        )
        assert status == 201, answer
        status, _, answer = server.request(
            "PUT",
            f"/api/v1/indices/{self.name}/{self.version}",
            {
                "dataSourceId": {"name": self.name, "version": self.version},
                "indexAlgorithm": {"type": algorithm, "params": params or {}},
                "idAttributes": list(permanent),
                "splitAttributes": list(split),
            },
        )
        assert status == 201, answer

    @property
    def address(self):
        return self.name, self.version


@pytest.fixture
def define(server):
    return lambda *args, **kwargs: Defined(server, *args, **kwargs)
