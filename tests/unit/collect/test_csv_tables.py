"""A collection's log.csv and resource.csv: rows, rules, and that it does not matter how often they are written."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafab.collect.csv_rows import LOG_COLUMNS, RESOURCE_COLUMNS, Provenance, final_before, log_row, merge_provenance
from datafab.collect.csv_tables import SavedTables, save_csv
from datafab.collect.endpoint import endpoint_hash
from datafab.errors import FlowError
from datafab.settings import load
from datafab.store.store import Store

CORPUS = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "collect"
TODAY = date(2026, 11, 20)
A, B, C = (f"{digit}" * 64 for digit in "abc")
URLS = [f"https://a.example/{number}.csv" for number in range(3)]


class Folder:
    """A collection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []

    def log(self, day: str, url: str, **facts: object) -> Path:
        path = self.path / "log" / day / f"{endpoint_hash(url)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        log = {"endpoint-url": url, "entry-date": f"{day}T01:02:03.000004", "elapsed": "0.5", "status": "200"}
        path.write_text(json.dumps(log | facts))
        return path

    def save(self, today: date = TODAY) -> SavedTables:
        self.warnings = []
        saved = save_csv(Store(str(self.path)), today, load({}), warn=self.warnings.append)
        assert not (self.path / "tmp").exists()
        return saved

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def files(self) -> list[bytes]:
        return [(self.path / f"{name}.csv").read_bytes() for name in ("log", "resource")]


@pytest.fixture
def folder(tmp_path) -> Folder:
    (tmp_path / "source.csv").write_text(
        "organisation,endpoint,pipelines,datasets\n"
        f"org:1,{endpoint_hash(URLS[0])},old,one;two\n"
        f"org:2,{endpoint_hash(URLS[0])},three,\n"
        f"org:2,{endpoint_hash(URLS[1])},,\n"
    )
    return Folder(tmp_path)


class TestRows:
    def test_of_logs(self, folder):
        headers = {"Content-Type": "text/csv", "Content-Length": "12", "content-length": "13"}
        folder.log("2026-11-19", URLS[0], resource=A, **{"response-headers": headers})
        folder.log("2026-11-20", URLS[1], exception="ReadTimeout", status=None, bytes=5, plugin="wfs")
        assert folder.save() == SavedTables(logs=2, resources=1, read=2)
        text = (folder.path / "log.csv").read_bytes().decode()
        assert text == (
            "bytes,content-type,elapsed,endpoint,resource,status,entry-date,start-date,end-date,exception\r\n"
            f"12,text/csv,0.5,{endpoint_hash(URLS[0])},{A},200,2026-11-19T01:02:03.000004,,,\r\n"
            f"5,,0.5,{endpoint_hash(URLS[1])},,,2026-11-20T01:02:03.000004,,,ReadTimeout\r\n"
        )

    def test_the_size_is_of_what_is_stored(self, folder):
        """Defect 8."""
        with Store(str(folder.path)).new_resource() as resource:
            resource.write(b"unpacked")
            digest, _ = resource.commit()
        folder.log("2026-11-19", URLS[0], resource=digest, **{"response-headers": {"Content-Length": "3"}})
        folder.save()
        assert [row["bytes"] for name in ("log", "resource") for row in folder.rows(name)] == ["8", "8"]

    def test_of_resources(self, folder):
        folder.log("2026-11-18", URLS[0], resource=A, bytes=1)
        folder.log("2026-11-19", URLS[1], resource=A)
        folder.log("2026-11-20", URLS[1], resource=B, bytes=2)
        folder.save()
        both = ";".join(sorted([endpoint_hash(URLS[0]), endpoint_hash(URLS[1])]))
        assert (folder.path / "resource.csv").read_bytes().decode() == (
            "resource,bytes,organisations,datasets,endpoints,start-date,end-date\r\n"
            f"{A},1,org:1;org:2,one;three;two,{both},2026-11-18,2026-11-19\r\n"
            f"{B},2,org:2,,{endpoint_hash(URLS[1])},2026-11-20,\r\n"
        )

    def test_an_endpoint_without_source_stops_nobody(self, folder):
        folder.log("2026-11-18", URLS[0], resource=A)
        folder.log("2026-11-18", URLS[2], resource=B)
        folder.save()
        assert [row["organisations"] for row in folder.rows("resource")] == ["org:1;org:2", ""]
        (warning,) = folder.warnings
        assert warning.startswith(f"source.csv does not have 1 endpoints: {endpoint_hash(URLS[2])};")
        (folder.path / "source.csv").unlink()
        folder.save()
        assert folder.warnings == []

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("{", "Expecting"),
            ("[]", "not a JSON object"),
            ("{}", "of no day"),
            (json.dumps({"entry-date": "2026-11-17T", "endpoint-url": URLS[0]}), "of 2026-11-17"),
            ('{"entry-date": "2026-11-18T", "endpoint-url": "other"}', endpoint_hash("other")),
            (json.dumps({"entry-date": "2026-11-18T", "endpoint-url": URLS[0], "resource": "../x"}), "not a sha256"),
        ],
    )
    def test_a_log_that_is_none_is_left_out(self, folder, text, says):
        folder.log("2026-11-18", URLS[0]).write_text(text)
        folder.log("2026-11-18", URLS[1])
        (folder.path / "log" / "readme.json").write_text("not below a day")
        assert folder.save().logs == 1
        (warning,) = folder.warnings
        assert endpoint_hash(URLS[0]) in warning
        assert says in warning

    def test_an_old_log_has_other_names(self):
        log = {"url": URLS[0], "datetime": "2020-02-12T01:20:39.717123", "resource": A}
        row = log_row(f"log/2020-02-12/{endpoint_hash(URLS[0])}.json", json.dumps(log).encode())
        assert (row["entry-date"], row["resource"], row["bytes"]) == (log["datetime"], A, "")

    @pytest.mark.parametrize(
        ("name", "column"), [("log", "endpoint"), ("resource", "resource"), ("source", "organisation")]
    )
    def test_a_table_without_its_columns_is_left_alone(self, folder, name, column):
        path = folder.path / f"{name}.csv"
        path.write_text("entry-date,endpoint\n".replace(column, "x") + "1,2\n")
        with pytest.raises(FlowError, match=rf"{name}\.csv has no column '{column}'"):
            folder.save()
        assert path.read_text().endswith("1,2\n")

    def test_an_empty_collection(self, tmp_path):
        (tmp_path / "log.csv").touch()
        folder = Folder(tmp_path)
        assert folder.save() == SavedTables(0, 0, 0)
        assert folder.files() == [",".join(names).encode() + b"\r\n" for names in (LOG_COLUMNS, RESOURCE_COLUMNS)]


class TestIncremental:
    def test_only_what_may_have_changed_is_read(self, folder):
        for day in range(10, 20):
            folder.log(f"2026-11-{day}", URLS[0], resource=A)
        assert folder.save().read == 10
        assert folder.save().read == 2
        folder.log("2026-11-12", URLS[1], resource=B)
        folder.log("2026-11-20", URLS[0], resource=A)
        assert folder.save().read == 4
        assert folder.save().logs == 12

    def test_a_log_that_was_written_over_takes_its_row_along(self, folder):
        folder.log("2026-11-19", URLS[0], resource=A)
        folder.log("2026-11-19", URLS[1], resource=B)
        folder.save()
        folder.log("2026-11-19", URLS[0], resource=C)
        folder.save()
        assert [row["resource"] for row in folder.rows("resource")] == [B, C]
        assert {row["resource"] for row in folder.rows("log")} == {B, C}

    def test_rows_whose_logs_are_gone_stay(self, folder):
        """Production brings the tables of the last run along, and no logs."""
        folder.log("2026-11-10", URLS[0], resource=A, bytes=7)
        folder.log("2026-11-11", URLS[0], resource=B)
        folder.save()
        before = folder.files()
        shutil.rmtree(folder.path / "log")
        assert folder.save().read == 0
        assert folder.files() == before
        folder.log("2026-11-20", URLS[1], resource=A)
        folder.save()
        first, second = folder.rows("resource")
        assert (first["start-date"], first["end-date"], first["bytes"]) == ("2026-11-10", "", "7")
        assert len(first["endpoints"].split(";")) == 2
        assert second["end-date"] == "2026-11-11"

    def test_a_resource_older_than_all_logs_stays(self, folder):
        (folder.path / "resource.csv").write_text(
            f"resource,bytes,endpoints,organisations,datasets,start-date,end-date\n"
            f"{A},9,{endpoint_hash(URLS[0])},org:0,zero,2020-01-01,2020-02-01\n"
            f"{B},8,unknown,org:9,nine,2020-01-01,\n"
        )
        folder.log("2026-11-10", URLS[1], resource=A)
        folder.save()
        first, second = folder.rows("resource")
        assert (first["bytes"], first["start-date"], first["end-date"]) == ("9", "2020-01-01", "2026-11-10")
        assert first["organisations"] == "org:1;org:2"
        assert (second["organisations"], second["datasets"]) == ("org:9", "nine")

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_equals_a_rebuild(self, data):
        """Whatever comes, in whichever order, is saved as if all had been read at once."""
        with tempfile.TemporaryDirectory() as name:
            folder = Folder(Path(name) / "a")
            folder.path.mkdir()
            (folder.path / "source.csv").write_text(f"organisation,endpoint\norg:1,{endpoint_hash(URLS[0])}\n")
            today, latest = TODAY, None
            seen: set[tuple[str, str]] = set()
            for _ in range(data.draw(st.integers(1, 5))):
                for _ in range(data.draw(st.integers(0, 4))):
                    day = today - timedelta(days=data.draw(st.integers(0, 4)))
                    url = data.draw(st.sampled_from(URLS))
                    if (str(day), url) in seen and latest and str(day) < final_before(latest):
                        continue  # written over after its day, which no collector does
                    resource = data.draw(st.sampled_from([A, B, C, None]))
                    folder.log(str(day), url, resource=resource, bytes=len(seen))
                    seen.add((str(day), url))
                folder.save(today)
                latest = max((day for day, _ in seen), default=None)
                whole = Folder(Path(name) / "b")
                shutil.copytree(folder.path, whole.path, ignore=shutil.ignore_patterns("log.csv", "resource.csv"))
                whole.save(today)
                assert folder.files() == whole.files()
                shutil.rmtree(whole.path)
                today += timedelta(days=data.draw(st.integers(0, 2)))


@pytest.mark.parametrize(("latest", "day"), [("2026-03-01", "2026-02-28"), (None, ""), ("soon", "")])
def test_when_logs_have_settled(latest, day):
    assert final_before(latest) == day


def test_what_a_former_row_alone_knows():
    now = Provenance("2026-01-02", "2026-01-03", frozenset({"x"}))
    row = {"start-date": "2026-01-02", "end-date": "", "endpoints": "x"}
    assert merge_provenance(row, now, now) == (now, False)
    assert merge_provenance(row, now, None) == (None, False)
    assert merge_provenance(None, None, now) == (now, False)
    older = row | {"start-date": "2025-01-01", "endpoints": "x;y"}
    assert merge_provenance(older, now, now) == (Provenance("2025-01-01", "2026-01-03", frozenset({"x", "y"})), True)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
class TestRealCollections:
    def test_one_that_was_kept_by_the_original(self, tmp_path):
        shutil.copytree(CORPUS / "central-activities-zone", tmp_path / "c", ignore=shutil.ignore_patterns("resource"))
        folder = Folder(tmp_path / "c")
        before, resources = folder.rows("log"), folder.rows("resource")
        header = [data.partition(b"\r\n")[0] for data in folder.files()]
        folder.save()
        assert [data.partition(b"\r\n")[0] for data in folder.files()] == header
        kept = {row["entry-date"] for row in folder.rows("log")}
        # The logs of the last day were written over since: their rows with them.
        assert {row["entry-date"] for row in before} - kept == {"2024-10-21T00:04:27.376395"}
        assert {"2024-10-07T14:49:28.964370", "2024-10-21T22:01:31.776439"} < kept
        for row, then in zip(folder.rows("resource"), resources, strict=True):
            assert row == then | {"end-date": "2024-10-21"}
        assert folder.warnings == []

    def test_the_rows_that_the_original_made_of_the_same_logs(self, tmp_path):
        folder = Folder(tmp_path)
        theirs = CORPUS / "listed-building"
        for path in (theirs / "log").glob("*.json"):
            day = json.loads(path.read_bytes())["entry-date"][:10]
            (tmp_path / "log" / day).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "log" / day)
        folder.save()
        with (theirs / "resources" / "log.csv").open(newline="") as file:
            made = {(row["endpoint"], row["entry-date"]): row for row in csv.DictReader(file)}
        ours = {(row["endpoint"], row["entry-date"]): row for row in folder.rows("log")}
        assert ours.keys() & made.keys()
        for key in ours.keys() & made.keys():
            assert ours[key] == made[key]
