"""A store's bytes in a bucket of an object store that speaks S3: an object is there whole or not at all.

Keys and region are found where Amazon's own tools look for them (``AWS_ACCESS_KEY_ID``, ``~/.aws``, the host's role).
What is under way lies in this host's folder for temporary files (``TMPDIR``).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast
from uuid import uuid4

from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, which is not Python's
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from datafab.errors import FlowError, Wait
from datafab.store.files import broken
from datafab.store.scratch import PREFIX

#: What is larger is sent in parts of this size, one after another: a worker has other threads for other files.
PART = 16 * 1024 * 1024
#: What is opened stays in memory below this size, else it goes through the folder for temporary files.
IN_MEMORY = 1024 * 1024
#: Seconds before a store that does not answer is asked again.
AWAY = 15.0

#: Code of an answer -> what to do; those of HEAD requests, which have no body, are numbers.
_SAYS = {
    "NoSuchBucket": "there is no such bucket; create it, or name another",
    "InvalidAccessKeyId": "this key is not known there; check AWS_ACCESS_KEY_ID and DATAFAB_S3_ENDPOINT",
    "SignatureDoesNotMatch": "the secret does not fit the key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the key has expired; renew AWS_SESSION_TOKEN",
    "PermanentRedirect": "the bucket is in another region; check AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; check AWS_DEFAULT_REGION",
}
_FORBIDDEN = "refused; check AWS_ACCESS_KEY_ID, and that it may list, read, write and delete there"
_PASSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})


class Bucket:
    """The objects below a prefix. Its client may be used by many threads at once."""

    side_by_side = 16
    renews = False

    def __init__(self, bucket: str, prefix: str, endpoint: str | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._temporary = Path(tempfile.gettempdir())
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=64,
            retries={"mode": "standard", "total_max_attempts": 3},
            # Who runs a store of their own has seldom a name for each bucket.
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        try:
            self._client: Any = Session().client("s3", endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            msg = f"s3://{bucket}: {error}; check DATAFAB_S3_ENDPOINT and the variables AWS_..."
            raise FlowError(msg, code="store", field="store") from error
        self._transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)

    def ping(self) -> None:
        """Raise FlowError unless an object can be written."""
        name = f"tmp/{uuid4().hex}"
        try:
            self.write(name, b"")
            self._delete([f"{self._prefix}{name}"])
        except Wait as wait:
            raise FlowError(wait.message, code="store", field="store") from wait

    def require_marked(self) -> None:
        """Do nothing: a bucket is the same for all hosts."""

    def size(self, name: str) -> int | None:
        """Return the bytes of an object; None when there is none."""
        try:
            with self._told(name):
                return int(self._client.head_object(**self._named(name))["ContentLength"])
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """Return a copy of an object, to be read; FileNotFoundError when there is none."""
        spooled = tempfile.SpooledTemporaryFile(IN_MEMORY, mode="w+b", dir=str(self._temporary))  # noqa: SIM115 - returned
        file = cast("BinaryIO", spooled)
        try:
            self._fetch(name, file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def write(self, name: str, data: bytes) -> None:
        """Write a whole object over what was there."""
        with self._told(name):
            self._client.put_object(**self._named(name), Body=data)

    def create(self) -> BinaryIO:
        """Open a new file on this host."""
        path = self._temporary / f"{PREFIX}{uuid4().hex}"
        try:
            return path.open("xb")
        except OSError as error:
            broken(str(path), error)

    def tidy(self) -> None:
        """Do nothing: a bucket has no empty folders."""

    def adopt(self, path: str, name: str) -> None:
        """Upload the file at ``path`` (one of ``create``), then remove it."""
        with Path(path).open("rb") as file, self._told(name):
            self._client.upload_fileobj(file, self._bucket, f"{self._prefix}{name}", Config=self._transfer)
        Path(path).unlink()

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Have a copy of an object as a file of this host; FileNotFoundError when there is none."""
        file = self.create()
        path = Path(file.name)
        try:
            with file:
                self._fetch(name, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return _removed_after(path)

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all objects below a folder."""
        prefix = f"{self._prefix}{folder}/"
        with self._told(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield each["Key"].removeprefix(self._prefix)

    def aged(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield all objects below a folder: name, bytes, Unix time of the last write."""
        prefix = f"{self._prefix}{folder}/"
        with self._told(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield each["Key"].removeprefix(self._prefix), each["Size"], each["LastModified"].timestamp()

    def renew(self, name: str) -> None:
        """Do nothing: an object is made young by writing it anew only."""

    def remove(self, name: str, before: float) -> bool:
        """Remove an object, unless it is younger than this Unix time, or gone: False then."""
        key = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            with self._told(name):
                if self._client.head_object(**key)["LastModified"].timestamp() >= before:
                    return False
                self._client.delete_object(**key)
        except FileNotFoundError:
            return False
        return True

    def path(self, name: str) -> Path:
        """Refuse: nothing here lies on this host."""
        msg = f"{self._url(name)} is not on this host: `local` fetches it"
        raise FlowError(msg, code="store")

    def sweep(self, folder: str, before: float) -> int:
        """Remove what is older: objects, or for ``tmp`` what killed uploads left in the bucket."""
        if folder == "tmp":
            return self._abort(before)
        prefix = f"{self._prefix}{folder}/"
        gone = 0
        with self._told(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                found = page.get("Contents", [])
                gone += self._delete([each["Key"] for each in found if each["LastModified"].timestamp() < before])
        return gone

    def _abort(self, before: float) -> int:
        """Give up uploads begun before this Unix time: their parts are paid for, and nobody sees them."""
        gone = 0
        with self._told("tmp"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for each in page.get("Uploads", []):
                    if each["Initiated"].timestamp() < before:
                        key = {"Bucket": self._bucket, "Key": each["Key"], "UploadId": each["UploadId"]}
                        self._client.abort_multipart_upload(**key)
                        gone += 1
        return gone

    def _delete(self, keys: list[str]) -> int:
        for key in keys:
            with self._told(key.removeprefix(self._prefix)):
                self._client.delete_object(Bucket=self._bucket, Key=key)
        return len(keys)

    def _fetch(self, name: str, file: BinaryIO) -> None:
        with self._told(name):
            body = self._client.get_object(**self._named(name))["Body"]
            try:
                shutil.copyfileobj(body, file, IN_MEMORY)
                file.flush()
            except OSError as error:
                broken(str(self._temporary), error)
            finally:
                body.close()

    def _named(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}

    def _url(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Say what goes wrong with an object in our words."""
        try:
            yield
        except ClientError as error:
            self._refused(name, error)
        except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
            raise Wait(f"{self._url(name)}: {error}", delay=AWAY, looked=False, code="store") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            msg = f"{self._url(name)}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise FlowError(msg, code="store", field="store") from error
        except BotoCoreError as error:
            raise FlowError(f"{self._url(name)}: {error}", code="store", field="store") from error

    def _refused(self, name: str, error: ClientError) -> NoReturn:
        """Raise what an answer of the object store means."""
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchKey" or (status == HTTPStatus.NOT_FOUND and code not in _SAYS):
            raise FileNotFoundError(self._url(name)) from error
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR or code == "SlowDown":
            raise Wait(f"{self._url(name)}: {error}", delay=AWAY, looked=False, code="store") from error
        says = _SAYS.get(code) or (_FORBIDDEN if status == HTTPStatus.FORBIDDEN else str(error))
        raise FlowError(f"{self._url(name)}: {says}", code="store", field="store") from error


@contextmanager
def _removed_after(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
