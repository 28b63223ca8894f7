"""How fast a search is among many documents, next to the query that one would write by hand for the same index."""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, product
from pathlib import Path
from typing import Any

from datafab.core.document import Column, Document
from datafab.core.item import Status
from datafab.index import Index, open_index
from datafab.index.elastic import ElasticIndex
from datafab.index.query import Facet
from datafab.index.sqlite import SqliteIndex
from datafab.index.sqlite_query import value_token

#: Syllables of words of titles and columns; no word is a plural, or an operator.
SYLLABLES = [first + vowel for first in "bcdfghjklmnpqrtvz" for vowel in "aeiou"]
WORDS = random.Random(0).sample(["".join(syllables) for syllables in product(SYLLABLES, repeat=3)], 20_000)
#: As in a language, the tenth word comes half as often as the first, the hundredth a tenth as often.
FREQUENCIES = list(accumulate(1 / (rank + 10) for rank in range(len(WORDS))))
FORMATS = ("siret", "siren", "code_postal", "code_commune", "date", "email", "uai", "latitude_wgs", "longitude_wgs")
COLUMNS, PAGE = 12, 20
#: Documents that are put at once.
BATCH = 500


@dataclass(frozen=True)
class Asked:
    """One question: in our language, by hand for SQLite, by hand for Elasticsearch."""

    query: str
    match: str
    where: str
    request: dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """What was measured, in seconds.

    Attributes:
        documents: how many were searched.
        ours: of each question, by ``search``.
        raw: of each question, by hand.
        counted: of each question, by ``search`` with all facets.
    """

    documents: int
    ours: list[float]
    raw: list[float]
    counted: list[float]

    def ratio(self, percent: int) -> float:
        """Return how many times as long ours takes, at this percentile."""
        return percentile(self.ours, percent) / percentile(self.raw, percent)


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which so many percent of them are."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def sqlite_figures(folder: Path, count: int, asked: int) -> Figures:
    """Measure an index in SQLite."""
    index = SqliteIndex(folder / "search.db")
    _fill(index, count)
    connection = sqlite3.connect(folder / "search.db")
    try:
        return _measure(index, lambda question: _by_hand(connection, question), count, asked)
    finally:
        connection.close()
        index.close()


def elastic_figures(url: str, count: int, asked: int) -> Figures:
    """Measure an index in Elasticsearch."""
    index = open_index(url)
    assert isinstance(index, ElasticIndex)
    _fill(index, count)
    index.refresh()

    def by_hand(question: Asked) -> int:
        body = {"query": question.request, "size": PAGE, "track_total_hits": True}
        total: int = index.client.search(index=index.name, **body, source_excludes=["folded"]).body["hits"]["total"][
            "value"
        ]
        return total

    figures = _measure(index, by_hand, count, asked)
    index.close()
    return figures


def _fill(index: Index, count: int) -> None:
    made = documents(count)
    while batch := [one for _, one in zip(range(BATCH), made, strict=False)]:
        index.put_many(batch)


def _measure(index: Index, by_hand: Callable[[Asked], int], count: int, asked: int) -> Figures:
    """Ask each question by hand and by search, in turn, after it has been asked once; both must find the same."""
    figures = Figures(count, [], [], [])
    for question in questions(asked):
        total = by_hand(question)
        found = index.search(question.query, PAGE).total
        assert found == total, f"{question.query}: {found} found, {total} by hand"
        for times, work in (
            (figures.raw, lambda question=question: by_hand(question)),
            (figures.ours, lambda question=question: index.search(question.query, PAGE)),
            (figures.counted, lambda question=question: index.search(question.query, PAGE, facets=list(Facet))),
        ):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return figures


def _by_hand(connection: sqlite3.Connection, question: Asked) -> int:
    """Ask SQLite for the number of results and for the best of them."""
    found = f"FROM words JOIN documents ON number = words.rowid WHERE words MATCH ? {question.where}"
    counted = found if question.where else "FROM words WHERE words MATCH ?"
    total: int = connection.execute(f"SELECT count(*) {counted}", (question.match,)).fetchone()[0]
    best = f"SELECT number, bm25(words, 4, 2, 2, 2, 1, 0) AS score {found} ORDER BY score LIMIT {PAGE}"
    bodies = f"SELECT body FROM ({best}) JOIN bodies USING (number) ORDER BY score"  # noqa: S608 - ours
    for (body,) in connection.execute(bodies, (question.match,)):
        json.loads(body)
    return total


def questions(count: int, seed: int = 2) -> list[Asked]:
    """Return questions as people ask them: words, a format, a number of rows, and of these several."""
    dice, found = random.Random(seed), []
    for number in range(count):
        one, other, form = _word(dice), _word(dice), dice.choice(FORMATS)
        exact, term = f'exact : "{value_token("format", form)}"', {"term": {"formats": form}}
        both = [_any(one), _any(other)]
        many, some = {"range": {"total_lines": {"gt": 1000}}}, {"range": {"total_lines": {"gte": 10, "lte": 500}}}
        title, column = {"match": {"folded.title": other}}, {"match": {"folded.column": one}}
        kinds = (
            Asked(one, one, "", both[0]),
            Asked(f"{one} {other}", f"{one} AND {other}", "", {"bool": {"must": both}}),
            Asked(f'"{one} {other}"', f'"{one} {other}"', "", _any(f"{one} {other}")),
            Asked(
                f"column:{one} title:{other}",
                f'"column" : {one} AND title : {other}',
                "",
                {"bool": {"must": [column, title]}},
            ),
            Asked(f"{one} format:{form}", f"{one} AND {exact}", "", {"bool": {"must": both[0], "filter": term}}),
            Asked(f"{one} rows:>1000", one, "AND total_lines > 1000", {"bool": {"must": both[0], "filter": many}}),
            Asked(
                f"({one} OR {other}) -format:{form}",
                f"({one} OR {other}) NOT {exact}",
                "",
                {"bool": {"should": both, "minimum_should_match": 1, "must_not": term}},
            ),
            Asked(
                f"({one} OR {other}) format:{form} rows:10..500",
                f"({one} OR {other}) AND {exact}",
                "AND total_lines BETWEEN 10 AND 500",
                {"bool": {"should": both, "minimum_should_match": 1, "filter": [term, some]}},
            ),
        )
        found.append(kinds[number % len(kinds)])
    return found


def documents(count: int, seed: int = 1) -> Iterator[Document]:
    """Yield documents as catalogues have them: a title, a dozen columns, a few formats."""
    dice = random.Random(seed)
    for number in range(count):
        formats = dice.sample(FORMATS, 3)
        names = [" ".join(_word(dice) for _ in range(dice.randint(1, 3))) for _ in range(COLUMNS)]
        kinds = [*formats, *["string"] * (COLUMNS - len(formats))]
        cols = tuple(
            Column(name=name, position=position, format=kind, python_type="string")
            for position, (name, kind) in enumerate(zip(names, kinds, strict=True))
        )
        yield Document(
            source=f"datagouv:{number}",
            version=number,
            status=Status.OK if dice.random() < 0.9 else Status.FAILED,
            title=" ".join(_word(dice) for _ in range(6)),
            dataset_title=" ".join(_word(dice) for _ in range(6)),
            organisation=f"Organisation {_word(dice)}",
            domain=f"www{number % 300}.example.fr",
            resource_url=f"https://www{number % 300}.example.fr/{number}.csv",
            total_lines=int(10 ** (dice.random() * 6)),
            filesize=int(10 ** (dice.random() * 9)),
            modified=datetime(2026, 1, 1, tzinfo=UTC) - timedelta(minutes=number),
            nb_columns=len(cols),
            header=tuple(names),
            formats=tuple(sorted(set(kinds))),
            cols=cols,
        )


def _word(dice: random.Random) -> str:
    return dice.choices(WORDS, cum_weights=FREQUENCIES)[0]


def _any(text: str) -> dict[str, Any]:
    fields = ["folded.title^4", "folded.dataset^2", "folded.organisation^2", "folded.column^2", "folded.formats"]
    return {"multi_match": {"query": text, "type": "phrase", "fields": fields}}
