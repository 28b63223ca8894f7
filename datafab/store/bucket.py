"""A store's files in a bucket of an object store that speaks S3: an object is complete, or it does not exist.

Keys and region come from where Amazon's own tools look for them (``AWS_ACCESS_KEY_ID``, ``~/.aws``, the host's role).
Temporary files are in this process's folder for them (``scratch.py``).
"""

from __future__ import annotations

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

from datafab.cancellation import check
from datafab.errors import FlowError, Wait
from datafab.store.files import raise_store_error
from datafab.store.scratch import process_folder

#: Size of the parts in which larger files are uploaded, one after another: other threads of a worker upload others.
PART_BYTES = 16 * 1024 * 1024
#: Open files below this size stay in memory; larger ones are temporary files.
MEMORY_BYTES = 1024 * 1024
#: Seconds before another request to an object store that did not answer.
RETRY_SECONDS = 15.0

#: Code of an answer -> what it means and what to do. Answers to HEAD requests have no body, and so numbers as codes.
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket; create it, or name another",
    "InvalidAccessKeyId": "this key is unknown there; check AWS_ACCESS_KEY_ID and DATAFAB_S3_ENDPOINT",
    "SignatureDoesNotMatch": "the secret does not match the key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the key has expired; renew AWS_SESSION_TOKEN",
    "PermanentRedirect": "the bucket is in another region; check AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; check AWS_DEFAULT_REGION",
}
_FORBIDDEN = "refused; check AWS_ACCESS_KEY_ID, and that it may list, read, write and delete there"
_TRANSIENT_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})


class Bucket:
    """The objects below a prefix. Its client may be used by many threads at once."""

    concurrency = 16
    touches = False

    def __init__(self, bucket: str, prefix: str, endpoint: str | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=64,
            retries={"mode": "standard", "total_max_attempts": 3},
            # Object stores other than Amazon's seldom have a host name for each bucket.
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        try:
            self._client: Any = Session().client("s3", endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            msg = f"s3://{bucket}: {error}; check DATAFAB_S3_ENDPOINT and the variables AWS_..."
            raise FlowError(msg, code="store", field="store") from error
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )

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
        """Return the size of an object in bytes; None when there is none."""
        try:
            with self._translate_errors(name):
                return int(self._client.head_object(**self._key(name))["ContentLength"])
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """Open a copy of an object for reading; FileNotFoundError when there is none."""
        place = str(process_folder())
        spooled = tempfile.SpooledTemporaryFile(MEMORY_BYTES, mode="w+b", dir=place)  # noqa: SIM115 - returned
        file = cast("BinaryIO", spooled)
        try:
            self._fetch(name, file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a whole object."""
        with self._translate_errors(name):
            self._client.put_object(**self._key(name), Body=data)

    def create_temporary(self) -> BinaryIO:
        """Open a new file on this host."""
        path = process_folder() / uuid4().hex
        try:
            return path.open("xb")
        except OSError as error:
            raise_store_error(str(path), error)

    def tidy(self) -> None:
        """Do nothing: a bucket has no empty folders."""

    def finish(self, path: str, name: str) -> None:
        """Upload the file at ``path`` (one of ``create_temporary``), then remove it."""
        with Path(path).open("rb") as file, self._translate_errors(name):
            self._client.upload_fileobj(
                file, self._bucket, f"{self._prefix}{name}", Config=self._transfer, Callback=lambda _: check()
            )
        Path(path).unlink()

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Provide a copy of an object as a file of this host; FileNotFoundError when there is none."""
        file = self.create_temporary()
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
        with self._translate_errors(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield each["Key"].removeprefix(self._prefix)

    def files_with_age(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield the objects below a folder: name, bytes, Unix time of the last write."""
        prefix = f"{self._prefix}{folder}/"
        with self._translate_errors(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield each["Key"].removeprefix(self._prefix), each["Size"], each["LastModified"].timestamp()

    def touch(self, name: str) -> None:
        """Do nothing: the age of an object changes only when it is written again."""

    def remove(self, name: str, before: float) -> bool:
        """Remove an object; return False when it is younger than this Unix time, or gone."""
        key = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            with self._translate_errors(name):
                if self._client.head_object(**key)["LastModified"].timestamp() >= before:
                    return False
                self._client.delete_object(**key)
        except FileNotFoundError:
            return False
        return True

    def path(self, name: str) -> Path:
        """Raise FlowError: no object is on this host."""
        msg = f"{self._url(name)} is not on this host: `local` downloads it"
        raise FlowError(msg, code="store")

    def sweep(self, folder: str, before: float) -> int:
        """Remove older objects, or for ``tmp`` the uploads that killed processes left; return their number."""
        if folder == "tmp":
            return self._abort(before)
        prefix = f"{self._prefix}{folder}/"
        removed = 0
        with self._translate_errors(folder):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                found = page.get("Contents", [])
                removed += self._delete([each["Key"] for each in found if each["LastModified"].timestamp() < before])
        return removed

    def _abort(self, before: float) -> int:
        """Abort uploads started before this Unix time: their invisible parts cost money."""
        removed = 0
        with self._translate_errors("tmp"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for each in page.get("Uploads", []):
                    if each["Initiated"].timestamp() < before:
                        key = {"Bucket": self._bucket, "Key": each["Key"], "UploadId": each["UploadId"]}
                        self._client.abort_multipart_upload(**key)
                        removed += 1
        return removed

    def _delete(self, keys: list[str]) -> int:
        for key in keys:
            with self._translate_errors(key.removeprefix(self._prefix)):
                self._client.delete_object(Bucket=self._bucket, Key=key)
        return len(keys)

    def _fetch(self, name: str, file: BinaryIO) -> None:
        with self._translate_errors(name):
            body = self._client.get_object(**self._key(name))["Body"]
            try:
                while block := body.read(MEMORY_BYTES):
                    check()
                    file.write(block)
                file.flush()
            except OSError as error:
                raise_store_error(str(process_folder()), error)
            finally:
                body.close()

    def _key(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}

    def _url(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    @contextmanager
    def _translate_errors(self, name: str) -> Iterator[None]:
        """Raise the errors of the object store as FlowError, Wait or FileNotFoundError."""
        try:
            yield
        except ClientError as error:
            self._refused(name, error)
        except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
            raise Wait(f"{self._url(name)}: {error}", delay=RETRY_SECONDS, looked=False, code="store") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            msg = f"{self._url(name)}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise FlowError(msg, code="store", field="store") from error
        except BotoCoreError as error:
            raise FlowError(f"{self._url(name)}: {error}", code="store", field="store") from error

    def _refused(self, name: str, error: ClientError) -> NoReturn:
        """Raise the error that an answer of the object store stands for."""
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchKey" or (status == HTTPStatus.NOT_FOUND and code not in _MEANINGS):
            raise FileNotFoundError(self._url(name)) from error
        if status in _TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR or code == "SlowDown":
            raise Wait(f"{self._url(name)}: {error}", delay=RETRY_SECONDS, looked=False, code="store") from error
        meaning = _MEANINGS.get(code) or (_FORBIDDEN if status == HTTPStatus.FORBIDDEN else str(error))
        raise FlowError(f"{self._url(name)}: {meaning}", code="store", field="store") from error


@contextmanager
def _removed_after(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
