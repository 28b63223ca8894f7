"""Generated tables as French portals publish them, of two kinds, ten columns each."""

from __future__ import annotations

import csv
import io
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

WORDS = "le la de du des commune eau service public donnée école mairie région parc forêt bois lac".split()  # noqa: SIM905 - shorter
POSTCODES = ("75001", "69002", "13003", "33000", "44000", "59000", "67000", "31000", "06000", "35000")
COMMUNES = ("Lyon", "Marseille", "Bordeaux", "Nantes", "Lille", "Strasbourg", "Toulouse", "Nice", "Rennes", "Besançon")
DEPARTEMENTS = ("Rhône", "Gironde", "Nord", "Ain", "Aisne", "Loire", "Hérault", "Doubs", "Loiret", "Bas-Rhin")
WAYS = ("rue", "avenue", "boulevard", "place", "chemin", "allée", "impasse")

Row = list[str]


def identifiers(chances: random.Random) -> Row:
    """A row of kind A: SIREN, SIRET, postcode, date, coordinates, email, URL, number, text."""
    siren = _checked([chances.randint(1, 9), *(chances.randint(0, 9) for _ in range(7))])
    siret = _checked([*siren, 0, 0, *(chances.randint(0, 9) for _ in range(2))])
    return [
        "".join(map(str, siren)),
        "".join(map(str, siret)),
        chances.choice(POSTCODES),
        _day(chances, 1990),
        f"{chances.uniform(42, 51):.6f}",
        f"{chances.uniform(-4, 9):.6f}",
        f"user{chances.randint(0, 10**7)}@exemple{chances.randint(0, 99)}.fr",
        f"https://www.exemple{chances.randint(0, 999)}.fr/page/{chances.randint(0, 10**8)}",
        str(chances.randint(0, 10**6)),
        " ".join(chances.choices(WORDS, k=6)) if chances.random() > 0.1 else "",
    ]


def places(chances: random.Random) -> Row:
    """A row of kind B: UUID, address, commune, département, decimal comma, time, phone, yes or no, country, text."""
    return [
        str(uuid.UUID(int=chances.getrandbits(128))),
        f"{chances.randint(1, 300)} {chances.choice(WAYS)} {chances.choice(WORDS)} {chances.randint(1, 99999)}",
        chances.choice(COMMUNES),
        chances.choice(DEPARTEMENTS),
        f"{chances.uniform(0, 10000):.2f}".replace(".", ","),
        f"{_day(chances, 2000)} {chances.randint(0, 23):02}:{chances.randint(0, 59):02}:{chances.randint(0, 59):02}",
        f"0{chances.randint(1, 7)}{chances.randint(0, 99999999):08}",
        chances.choice(("oui", "non")),
        chances.choice(("France", "Italie", "Espagne")),
        " ".join(chances.choices(WORDS, k=5)),
    ]


HEADERS = {
    "A": "siren;siret;code_postal;date_creation;latitude;longitude;email;url;nombre;description",
    "B": "identifiant;adresse;commune;departement;montant;horodatage;telephone;actif;pays;commentaire",
}
ROWS: dict[str, Callable[[random.Random], Row]] = {"A": identifiers, "B": places}


def write(path: Path, kind: str, rows: int, times: int = 1) -> None:
    """Write a table; the same each time. ``times``: how often its rows stand there, one after the other."""
    body = io.StringIO()
    csv.writer(body, delimiter=";", lineterminator="\n").writerows(_rows(kind, rows))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(HEADERS[kind] + "\n")
        for _ in range(times):
            file.write(body.getvalue())


def _rows(kind: str, rows: int) -> Iterator[Row]:
    chances = random.Random(1)
    return (ROWS[kind](chances) for _ in range(rows))


def _day(chances: random.Random, first: int) -> str:
    return f"{chances.randint(first, 2024)}-{chances.randint(1, 12):02}-{chances.randint(1, 28):02}"


def _checked(digits: list[int]) -> list[int]:
    """Add the digit that makes the Luhn sum end with 0."""
    total = sum(sum(divmod(digit * (2 if at % 2 == 0 else 1), 10)) for at, digit in enumerate(reversed(digits)))
    return [*digits, -total % 10]
