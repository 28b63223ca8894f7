"""Our analysis beside csv-detective's own: the same where that is right, and its known faults shown where it is not.

``DATAFAB_FUZZ=2000`` compares so many made columns (``make soak``).
"""

from __future__ import annotations

import csv
import math
import os
import random
import uuid
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from datafab.analysis.detective import Detective
from datafab.errors import Fatal

pytestmark = pytest.mark.unmeasured

TABLES = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "tables"
#: Made columns that are compared.
COLUMNS = int(os.environ.get("DATAFAB_FUZZ", "40"))
ACROSS = 8

Cell = Callable[[random.Random], str]


def theirs(path: Path, **options: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # After our import of it, which brings the library that it needs.
        routine = import_module("csv_detective").routine
        found: dict[str, Any] = routine(str(path), num_rows=-1, output_profile=True, save_results=False, **options)
    return found


def number(value: Any) -> Any:
    """Return a number that may be compared: of what is none in JSON, None."""
    if isinstance(value, str):
        return value
    value = float("nan") if value is pd.NA else float(value)
    return pytest.approx(value, rel=1e-9, abs=1e-9) if math.isfinite(value) else None


def differences(ours: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Say where two analyses differ, column by column."""
    found = [
        f"{key}: {ours[key]!r} here, {other[key]!r} there"
        for key in ("total_lines", "nb_duplicates", "categorical")
        if ours[key] != other[key]
    ]
    for name, there in other["columns"].items():
        here = ours["columns"][name]
        found += [
            f"{name}: {key} {here.get(key)!r} here, {there.get(key)!r} there"
            for key in ("format", "python_type", "date_format")
            if here.get(key) != there.get(key)
        ]
        if here["score"] != pytest.approx(there["score"]):
            found.append(f"{name}: score {here['score']} here, {there['score']} there")
        counted, profile = ours["profile"][name], other["profile"][name]
        found += [
            f"{name}: {key} {counted.get(key)!r} here, {value!r} there"
            for key, value in profile.items()
            if key != "tops" and counted.get(key) != number(value)
        ]
        if [each["count"] for each in counted["tops"]] != [int(each["count"]) for each in profile["tops"]]:
            found.append(f"{name}: tops {counted['tops']} here, {profile['tops']} there")
    return found


def luhn(digits: list[int], doubled: int) -> bool:
    return sum(sum(divmod(digit * (2 if at % 2 == doubled else 1), 10)) for at, digit in enumerate(digits)) % 10 == 0


def siren(chances: random.Random) -> str:
    digits = [chances.randint(1, 9), *(chances.randint(0, 9) for _ in range(7))]
    return "".join(map(str, [*digits, next(last for last in range(10) if luhn([*digits, last], 1))]))


def siret(chances: random.Random) -> str:
    digits = [*map(int, siren(chances)), 0, 0, *(chances.randint(0, 9) for _ in range(2))]
    return "".join(map(str, [*digits, next(last for last in range(10) if luhn([*digits, last], 0))]))


def moment(way: str) -> Cell:
    def cell(chances: random.Random) -> str:
        return (datetime(1950, 1, 1, tzinfo=UTC) + timedelta(seconds=chances.randrange(3 * 10**9))).strftime(way)

    return cell


def words(*choices: str) -> Cell:
    return lambda chances: chances.choice(choices)


def between(low: float, high: float, places: int, mark: str = ".") -> Cell:
    return lambda chances: f"{chances.uniform(low, high):.{places}f}".replace(".", mark)


def pair(chances: random.Random) -> str:
    return f"{chances.uniform(-90, 90):.3f},{chances.uniform(-180, 180):.3f}"


def address(chances: random.Random) -> str:
    return f"{chances.randint(1, 99)} {chances.choice(WAYS)} du {chances.choice(WAYS)} {chances.randint(1, 999)}"


def text(chances: random.Random) -> str:
    return " ".join(chances.choices(["le", "plan", "de", "la", "rue", "eau"], k=4))


WAYS = ("rue", "avenue", "place", "chemin", "Allée", "ROUTE", "impasse")
#: A cell of each kind, by names that say so, or not, or something else.
KINDS: dict[str, tuple[tuple[str, ...], Cell]] = {
    "siren": (("siren", "numero", "epci"), siren),
    "siret": (("siret", "num siret", "id"), siret),
    "int": (("nombre", "code", "x"), lambda chances: str(chances.randint(-5, 10**6))),
    "year": (("annee", "exercice", "y"), lambda chances: str(chances.randint(1795, 2101))),
    "float": (("taux", "part", "latitude"), between(-200, 200, 4)),
    "comma": (("montant", "x l93"), between(0, 10**4, 2, ",")),
    "latitude": (("latitude", "lat", "z"), between(41, 52, 6)),
    "longitude": (("longitude", "lon", "x"), between(-6, 10, 6)),
    "lambert": (("latitude", "y"), between(6 * 10**6, 7.3 * 10**6, 1)),
    "pair": (("geo", "coordonnees", "w"), pair),
    "bool": (("est ouvert", "actif"), words("oui", "non")),
    "zero": (("est ouvert", "longitude"), words("0", "1")),
    "date": (("date", "maj", "d"), moment("%Y-%m-%d")),
    "french": (("date", "jour"), moment("%d/%m/%Y")),
    "midnight": (("date",), moment("%Y-%m-%d 00:00:00")),
    "datetime": (("horodatage", "date"), moment("%Y-%m-%dT%H:%M:%S")),
    "zone": (("horodatage",), moment("%Y-%m-%dT%H:%M:%S+01:00")),
    "rfc": (("modified",), moment("%a, %d %b %Y %H:%M:%S GMT")),
    "packed": (("date", "n"), moment("%Y%m%d")),
    "address": (("adresse", "lieu"), address),
    "commune": (("commune", "ville"), words("Lyon", "Nice", "Rennes", "Besançon", "Orléans", "L'Haÿ-les-Roses")),
    "departement": (("departement", "dep"), words("Rhône", "Ain", "Aisne", "Loire", "Hérault")),
    "code_departement": (("code departement", "dep", "n"), words("01", "69", "2A", "75", "974")),
    "region": (("region", "code region"), words("Bretagne", "Corse", "Île-de-France")),
    "code_region": (("code region", "n"), words("11", "24", "84", "93")),
    "postcode": (("code postal", "cp", "n"), words("75001", "69002", "06000", "97400")),
    "insee": (("code commune", "com"), words("75056", "69123", "2A004")),
    "pays": (("pays", "lieu"), words("France", "Italie", "Espagne")),
    "iso2": (("code pays", "pays"), words("FR", "IT", "ES", "DE")),
    "iso3": (("pays", "c"), words("FRA", "ITA", "ESP")),
    "phone": (("telephone", "contact"), lambda chances: f"0{chances.randint(10**8, 10**9 - 1)}"),
    "email": (("email", "contact"), lambda chances: f"a{chances.randint(0, 10**6)}@exemple.fr"),
    "url": (("url", "site"), lambda chances: f"https://exemple.fr/{chances.randint(0, 10**6)}"),
    "uuid": (("id", "clef"), lambda chances: str(uuid.UUID(int=chances.getrandbits(128)))),
    "mongo": (("id",), lambda chances: f"{chances.getrandbits(96):024x}"),
    "sexe": (("sexe", "genre"), words("H", "F")),
    "month": (("mois",), words("janvier", "Février", "mars")),
    "day": (("jour",), words("lundi", "Mardi", "dim")),
    "money": (("budget",), lambda chances: f"{chances.randint(1, 999)}€"),
    "percent": (("part",), lambda chances: f"{chances.randint(1, 99)}%"),
    "json": (("list", "x"), lambda chances: f'{{"a": {chances.randint(1, 9)}}}'),
    "geojson": (("geom",), lambda chances: f'{{"type": "Point", "coordinates": [{chances.randint(1, 9)}, 4]}}'),
    "ape": (("code naf", "ape"), words("0116Z", "8411Z", "6201Z")),
    "rna": (("code rna", "rna"), lambda chances: f"W{chances.randint(10**8, 10**9 - 1)}"),
    "uai": (("uai",), lambda chances: f"042{chances.randint(1000, 9999)}F"),
    "username": (("user",), lambda chances: f"@u{chances.randint(1, 999)}"),
    "text": (("description", "commune"), text),
    "empty": (("rien", "date"), words("")),
}  # fmt: skip
#: Shares of rows that hold something else, near the shares that formats ask for.
SPOILED = (0.0, 0.0, 0.0, 0.01, 0.09, 0.11, 0.19, 0.21, 0.24, 0.26, 0.39, 0.41, 0.44, 0.46)


def made(chances: random.Random, rows: int) -> tuple[str, list[str]]:
    """Make a column of some kind, with a share of other cells and of missing ones."""
    kind, other = chances.sample(sorted(KINDS), 2)
    names, cell = KINDS[kind]
    spoiled, missing = chances.choice(SPOILED), chances.choice((0.0, 0.0, 0.3, 0.98))
    few = [cell(chances) for _ in range(20)] if chances.random() < 0.3 else None
    cells = []
    for _ in range(rows):
        if chances.random() < missing:
            cells.append(chances.choice(("", "NA", "n/a")))
        elif chances.random() < spoiled:
            cells.append(KINDS[other][1](chances))
        else:
            cells.append(chances.choice(few) if few else cell(chances))
    return chances.choice(names), cells


@pytest.mark.parametrize("seed", range(COLUMNS // ACROSS))
def test_made_tables_are_analysed_as_csv_detective_does(seed: int, tmp_path: Path):
    chances = random.Random(seed)
    rows = chances.choice((30, 200, 1500, 4000))
    columns = [made(chances, rows) for _ in range(ACROSS)]
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(
            [f"{name} {at}" if at % 3 == 2 else f"{name}{'.' * at}" for at, (name, _) in enumerate(columns)]
        )
        # A first cell that is never empty: csv-detective takes leading separators for columns of their own.
        writer.writerows(zip(*(cells for _, cells in columns), strict=True))
    other = theirs(path, encoding="utf-8", sep=";")
    assert differences(Detective().analyse(path), other) == []
    assert differences(Detective(use_filters=False).analyse(path), other) == []


#: Real files that csv-detective reads in another way, and who is right.
UNLIKE = {
    "frictionless-issue-1109.csv": "blanks before quotation marks: theirs are values, so that numbers are text",
    "frictionless-matrix-with-comment.csv": "a comment above the header: ours names the columns, theirs the comment",
    "frictionless-skip-rows-before-headers.csv": "the same",
    "frictionless-skip-rows.csv": "the same",
    "frictionless-table.jsonl": "records of JSON: theirs reads them as CSV",
    "frictionless-table.keyed.json": "the same",
    "hydra-invalid.geojson": "the same",
    "hydra-valid.geojson": "the same",
    "frictionless-table.json": "a table of lists: ours says that it is no list of records, theirs reads it as CSV",
    "frictionless-countries.csv": "a row longer than the header: theirs takes the whole for one column",
}


def named(other: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Give columns our names, which have no line ends, no invisible signs and no blanks around them."""
    renamed = dict(zip(other["header"], names, strict=True))
    for key in ("columns", "profile"):
        other[key] = {renamed[name]: each for name, each in other[key].items()}
    other["categorical"] = [renamed[name] for name in other["categorical"]]
    return other


#: Bytes of the real files that are compared: csv-detective takes minutes for all of them.
BYTES = 10**6 if "DATAFAB_FUZZ" in os.environ else 3_000


@pytest.mark.skipif(not TABLES.is_dir(), reason="the corpus of real tables is not on this machine")
def test_real_tables_are_analysed_as_csv_detective_does(tmp_path: Path):
    alike, unlike = 0, {}
    for path in sorted(path for path in TABLES.iterdir() if path.stat().st_size < BYTES):
        try:
            ours = Detective(max_columns=10_000).analyse(path)
        except Fatal:
            ours = {}
        read = {"encoding": ours["encoding"], "sep": ours["separator"]} if "separator" in ours else {}
        try:
            other = theirs(path, **read)
        except Exception:  # noqa: BLE001, S112 - a dozen kinds of them
            continue
        if not ours or len(ours["header"]) != len(other["header"]):
            unlike[path.name] = "refused" if not ours else "other columns"
            continue
        different = differences(ours, named(other, ours["header"]))
        if different:
            unlike[path.name] = str(different[:3])
        alike += not different
    assert {name: each for name, each in unlike.items() if name not in UNLIKE} == {}
    assert alike > 20


def written(path: Path, *columns: tuple[str, Iterable[str]]) -> Path:
    rows = zip(*(cells for _, cells in columns), strict=True)
    text = ";".join(name for name, _ in columns) + "\n" + "".join(f"{';'.join(row)}\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_detective_drops_every_eleventh_block_and_ours_does_not(tmp_path: Path):
    mixed = ["mot" if 110_000 <= number < 119_000 else str(number % 7) for number in range(125_000)]
    path = written(tmp_path / "table.csv", ("melange", mixed), ("k", ["1"] * 125_000))
    other, ours = theirs(path, encoding="utf-8", sep=";"), Detective().analyse(path)
    assert (other["total_lines"], other["columns"]["melange"]["format"]) == (115_000, "int")
    assert (ours["total_lines"], ours["columns"]["melange"]["format"]) == (125_000, "string")
    assert ours["profile"]["melange"]["tops"][-1] == {"count": 9000, "value": "mot"}


def test_the_first_block_outweighs_all_others_in_csv_detective_and_not_in_ours(tmp_path: Path):
    path = written(
        tmp_path / "table.csv", ("nom", ["Paris"] * 10_000 + ["ni ville ni rien"] * 100_000), ("k", "1" * 110_000)
    )
    other, ours = theirs(path, encoding="utf-8", sep=";"), Detective().analyse(path)
    assert other["columns"]["nom"]["format"] == "commune"
    assert ours["columns"]["nom"]["format"] == "string"


def test_french_in_cp1252_is_baltic_to_csv_detective_and_french_to_ours(tmp_path: Path):
    path = tmp_path / "table.csv"
    places = ["Ardèche", "Rhône", "Corrèze", "Hérault", "Isère", "Lozère", "Nièvre", "Drôme"] * 20
    text = "numero;departement\n" + "".join(f"{number};{place}\n" for number, place in enumerate(places))
    path.write_bytes(text.encode("cp1252"))
    other, ours = theirs(path), Detective().analyse(path)
    assert (other["encoding"].lower() == "cp1252", ours["encoding"]) == (False, "cp1252")
    assert "Ardèche" not in other["unique_values"]["departement"]
    assert ours["unique_values"]["departement"][0] == "Ardèche"
    assert ours["columns"]["departement"]["format"] == "departement"
