"""``datafab search`` as a person and a script read it."""

from __future__ import annotations

import pytest

from datafab.index import open_index
from datafab.settings import Settings
from tests.integration.conftest import Run, printed
from tests.searches import TOWNS


@pytest.fixture(scope="module", autouse=True)
def _indexed(settings: Settings) -> None:
    index = open_index(settings.index)
    index.put_many(TOWNS)
    index.close()


def test_a_person_sees_what_matched_and_the_counts(datafab: Run):
    said = datafab(
        "search", 'sete rows:>5 column:"code postal" OR naissances', "--facets", "all", "--limit", "1"
    ).stdout
    assert "2 found, 1 to 1 of them" in said
    assert "œuvre, date_naissance" not in said
    assert said.count("│ Naissances ") == 1
    assert "dataset: Population : naissances" in said
    assert "organisation Métropole de Lyon 1 · Ville de Sète 1" in said


def test_columns_that_matched_come_first(datafab: Run):
    assert "nom, code postal (code_postal), Siret (siret)" in datafab("search", "column:nom").stdout
    assert "ouverture (date) [date], code (code_commune), postal (int)" in datafab("search", "type:date").stdout


def test_a_script_gets_documents_and_counts(datafab: Run):
    search = ("search", "domain:data.sete.fr", "--json", "--sort", "title")
    assert [hit["source"] for hit in printed(datafab(*search))] == ["file:2", "file:1"]
    (hit, counts) = printed(datafab(*search, "--offset", "1", "--facets", "status"))
    assert hit["source"] == "file:1"
    assert counts == {"total": 2, "facets": {"status": [{"value": "ok", "count": 2}]}}


def test_an_error_points_at_the_character(datafab: Run):
    assert datafab("search", "siret colum:x", code=1).stderr.splitlines() == [
        "error: the query cannot be read at character 7: there is no field colum; is column meant?",
        "  siret colum:x",
        "        ^",
    ]
    assert "the facets are format, organisation" in datafab("search", "a", "--facets", "x", code=1).stderr
