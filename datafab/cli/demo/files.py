"""An act: collect, analyse, index and find eight sample files, good and bad."""

from __future__ import annotations

import requests

from datafab.cli import output
from datafab.cli.demo.scene import Scene, headline
from datafab.index.access import IndexAccess
from datafab.sandbox.portal import FILES, endpoint_csv
from workers import app

SEARCHES = ("format:siren", "communes", 'column:"mise en service"')


def play(scene: Scene) -> None:
    """Collect the portal's files in one job, print the result of each, and search them over HTTP."""
    endpoints = scene.folder / "endpoint.csv"
    endpoints.write_text(endpoint_csv(scene.portal), encoding="utf-8")
    headline("datafab collect endpoint.csv", f"{len(FILES)} endpoints of {scene.portal}")
    ended = scene.run("collect", {"endpoints": endpoints, "collection": scene.folder / "collection"})
    output.print_files(app.services().get(IndexAccess).reading.search("", 20))
    if ended.counts:
        output.print_summary(ended, ended.counts)
    for query in SEARCHES:
        headline(f"datafab search '{query}'")
        answer = requests.get(f"http://{scene.settings.bind}/api/search", params={"q": query}, timeout=10).json()
        for hit in answer["hits"]:
            rows = f"{hit['total_lines']} rows" if "total_lines" in hit else hit["status"]
            output.stdout.print(f"  {hit['title']}  {rows}", highlight=False)
