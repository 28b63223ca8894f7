"""The files that WMO's test suites need: schemas, code lists and topics, published by WMO and IANA.

The paths are those of the libraries' own commands (``pywis-pubsub schema sync``, ``pywcmp bundle sync``,
``pywis-topics bundle sync``), which write below HOME, and delete the old files before they fetch the new ones.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from datafab.errors import Fatal, FlowError
from datafab.fetch.session import Fetcher
from datafab.publish.wis2_suite import RECORDS, SCHEMA, TOPICS
from datafab.store.store import Store

#: Largest unpacked archive; the one of the topics has 80,000 bytes.
MAX_UNPACKED_BYTES = 64 * 1024**2
_RAW = "https://raw.githubusercontent.com/wmo-im"
_PAGES = "https://wmo-im.github.io/wis2-topic-hierarchy"


class BundleFile(NamedTuple):
    """A file to fetch, and its paths below DATAFAB_HOME. The tables of an archive are unpacked into each of them."""

    url: str
    places: tuple[str, ...]
    archive: bool = False


BUNDLE_FILES = (
    BundleFile(f"{_RAW}/wis2-notification-message/main/schemas/wis2-notification-message-bundled.json", (SCHEMA,)),
    BundleFile(f"{_RAW}/wcmp2/main/schemas/wcmp2-bundled.json", (RECORDS,)),
    BundleFile(
        "https://github.com/wmo-im/wcmp2-codelists/archive/refs/heads/main.zip",
        (".pywcmp/wcmp-2/codelists",),
        archive=True,
    ),
    BundleFile(
        f"{_PAGES}/wth-bundle.zip",
        (".pywcmp/wis2-topic-hierarchy", ".pywis-topics/wis2-topic-hierarchy"),
        archive=True,
    ),
    BundleFile(
        "https://www.iana.org/assignments/link-relations/link-relations-1.csv",
        (".pywcmp/wcmp-2/link-relations-1.csv",),
    ),
    BundleFile(
        f"{_PAGES}/iana-tlds/tlds-alpha-by-domain.txt",
        (".pywis-topics/wis2-topic-hierarchy/tlds-alpha-by-domain.txt",),
    ),
)
HOME_FOLDERS = (".pywis-pubsub", ".pywcmp", ".pywis-topics")


class Wis2Bundle:
    """The bundle of files, which ``sync`` fetches.

    Args:
        fetcher: a fetcher with the limits, the proxy and the certificates of the settings.
        mirror: a URL below which each file is found under its host and path; None: fetch it from its publisher.
    """

    def __init__(self, fetcher: Fetcher, mirror: str | None = None) -> None:
        self._fetcher = fetcher
        self._mirror = mirror

    def sync(self, home: Path, *, on_progress: Callable[[str], None] = lambda _: None) -> None:
        """Fetch the files into a home. Existing files are only replaced once all new ones are fetched and valid.

        Args:
            home: DATAFAB_HOME.
            on_progress: called with each URL before it is fetched.

        Raises:
            Fatal: a file cannot be fetched, or is invalid; names its URL.
            FlowError: the home is not writable.
        """
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # In the home, so that the files can be moved to their paths.
            with tempfile.TemporaryDirectory(prefix=".wis2-sync-", dir=home) as name:
                folder = Path(name)
                for source in BUNDLE_FILES:
                    on_progress(self._at(source.url))
                    self._bring(source, folder)
                _check_topics(folder / TOPICS)
                for each in HOME_FOLDERS:
                    _replace(home / each, folder / each, folder / f"{each}.before")
        except OSError as error:
            msg = f"DATAFAB_HOME={home}: {error.filename}: {error.strerror}"
            raise FlowError(msg, code="home", field="DATAFAB_HOME") from error

    def _at(self, url: str) -> str:
        if self._mirror is None:
            return url
        parts = urlsplit(url)
        return f"{self._mirror.rstrip('/')}/{parts.netloc}{parts.path}"

    def _bring(self, source: BundleFile, folder: Path) -> None:
        url = self._at(source.url)
        store = Store((folder / "fetched").as_uri())
        fetched = self._fetcher.fetch(url, store, accept_html=False)
        if fetched.refusal is not None or fetched.sha256 is None:
            reason = fetched.refusal.message if fetched.refusal else "the answer is empty"
            raise Fatal(reason, code=fetched.refusal.code if fetched.refusal else "empty", field=url)
        with store.open(fetched.sha256) as file:
            files = _tables(file, url) if source.archive else {"": file.read()}
        for place in source.places:
            if place.endswith(".json"):
                _check_schema(files[""], url)
            for name, content in files.items():
                target = folder / place / name if name else folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


def _tables(archive: BinaryIO, url: str) -> dict[str, bytes]:
    """Return the tables of an archive by name, whatever their folders."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [info for info in opened.infolist() if info.filename.endswith(".csv")]
            if sum(info.file_size for info in members) > MAX_UNPACKED_BYTES:
                raise Fatal(f"{url}: more than {MAX_UNPACKED_BYTES} bytes unpacked", code="too_large", field=url)
            # The size in the header may be wrong: no more is read than allowed.
            found = {PurePosixPath(info.filename).name: opened.open(info).read(MAX_UNPACKED_BYTES) for info in members}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise Fatal(f"{url}: not a readable zip archive: {error}", code="bad_archive", field=url) from error
    if not found:
        raise Fatal(f"{url}: the archive holds no table (.csv)", code="bad_archive", field=url)
    return found


def _check_schema(content: bytes, url: str) -> None:
    try:
        found = isinstance(json.loads(content), dict)
    except ValueError:
        found = False
    if not found:
        raise Fatal(f"{url}: not a JSON object, so not a schema", code="not_json", field=url)


def _check_topics(table: Path) -> None:
    if not table.is_file():
        msg = f"the archive of the topics has no {table.name}: WMO may have changed its layout"
        raise Fatal(msg, code="bad_archive", field=table.name)


def _replace(place: Path, new: Path, before: Path) -> None:
    """Move a folder to its path, and delete the folder or link that was there."""
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        place.rename(before)
    new.rename(place)
    shutil.rmtree(before, ignore_errors=True)
