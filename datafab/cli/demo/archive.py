"""An act: deliver an archive to a small entrepôt, which checks and processes it."""

from __future__ import annotations

import json

from rich.markup import escape
from rich.table import Table

from datafab.cli import output
from datafab.cli.demo.scene import Scene, headline
from datafab.errors import Fatal

PLAN = {
    "name": "COMMUNES_2026",
    "description": "communes et bornes, édition 2026",
    "files": ["/communes.csv", "/bornes.csv.gz"],
    "output": {"name": "COMMUNES"},
    "edition": {"from": "2026-01-01", "to": "2026-12-31"},
    "extent": {
        "type": "Polygon",
        "coordinates": [[[-5.2, 41.3], [9.6, 41.3], [9.6, 51.1], [-5.2, 51.1], [-5.2, 41.3]]],
    },
}


def play(scene: Scene) -> None:
    """Run a plan, then print its result and its requests, as recorded by the entrepôt."""
    entrepot = scene.entrepot
    headline("datafab archive run plan.json", f"two files into {entrepot.url}")
    plan = scene.folder / "plan.json"
    files = [scene.portal + path for path in PLAN["files"]]
    plan.write_text(json.dumps({"integrations": [PLAN | {"files": files}]}), encoding="utf-8")
    scene.run("archive", {"plan": plan})
    (upload,), (stored,) = entrepot.uploads.values(), entrepot.stored.values()
    if entrepot.stored_status(stored) != "GENERATED" or upload["state"] != "DELETED":
        raise Fatal(f"the archive is {entrepot.stored_status(stored)}, its upload {upload['state']}", code="demo")
    posts = [each["path"].rpartition("/")[2] for each in entrepot.control.asked("POST", "/api")]
    gets = len(entrepot.control.asked("GET", "/api"))
    table = Table("stage", "result")
    table.add_row("deliver", f"{', '.join(upload['files'])}: checks passed")
    table.add_row("execute", f"stored data {escape(stored['name'])}: GENERATED")
    table.add_row("describe", f"edition {stored['edition']['from']} to {stored['edition']['to']}, extent")
    table.add_row("tidy", "upload deleted")
    output.stdout.print(table)
    output.stdout.print(f"requested once each: {', '.join(posts)}; polled {gets} times", highlight=False)
