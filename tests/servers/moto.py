"""Amazon's S3, as moto plays it, as a child process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import requests
from boto3.session import Session

from datafab.embedded import free_port, tail
from datafab.embedded.supervisor import lifeline

#: What the variables of Amazon's tools are to hold; moto takes any key unless it is told not to.
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "eu-west-3"}


class Moto:
    """An object store on 127.0.0.1 from ``with`` to its end.

    Attributes:
        url: its endpoint.
        client: a client of its own, from ``with`` on.
    """

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._log = folder / "moto.log"
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        command = lifeline([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, tail(self._log)
            assert time.monotonic() < end, tail(self._log)
            time.sleep(0.05)
        names = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-3"}
        self.client: Any = Session(**names).client("s3", endpoint_url=self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/moto-api/data.json", timeout=2).ok
        except requests.ConnectionError:
            return False

    def bucket(self, name: str) -> str:
        """Make a bucket; return its name."""
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
        return name

    def objects(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Return what a bucket holds: key -> bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}

    def get(self, bucket: str, key: str) -> bytes:
        """Return an object."""
        data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def ask_for_keys(self, *, ask: bool) -> None:
        """Check keys from now on, or no longer. None is known then."""
        actions = "0" if ask else "inf"
        requests.post(f"{self.url}/moto-api/reset-auth", data=actions, timeout=10).raise_for_status()
