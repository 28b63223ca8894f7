"""Whatever files, titles and servers say, the terminal does what we say."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.live import Live
from rich.table import Table
from rich.text import Text

from datafab.cli import output
from datafab.cli.main import main
from datafab.cli.terminal import Terminal
from datafab.core.document import Column, Document, Results
from datafab.core.item import ItemError

ESC, BEL, CSI, DEL = "\x1b", "\x07", "\x9b", "\x7f"
#: names the window, fills the clipboard, clears the screen, and says it to old and new terminals
HOSTILE = f"{ESC}]0;pwned{BEL}a{ESC}]52;c;cm0={BEL}b{CSI}2Jc{ESC}[31m\r\b{DEL}d"
SEEN = "]0;pwneda]52;c;cm0=b2Jc[31md"


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("form", [str, Text, "[bold]{}[/]".format], ids=["plain", "text", "markup"])
def test_texts_give_no_orders(form, soft):
    file = StringIO()
    Terminal(file=file, width=100).print(form(HOSTILE), soft_wrap=soft, highlight=False)
    assert file.getvalue() == f"{SEEN}\n"


def test_cells_and_titles_give_no_orders():
    file, table = StringIO(), Table("a", HOSTILE, title=HOSTILE)
    table.add_row("été\n2", Text(HOSTILE))
    Terminal(file=file, width=100).print(table)
    said = file.getvalue()
    assert said.count(SEEN) == 3
    assert "été" in said
    assert not set(said) & {ESC, BEL, CSI, DEL, "\b", "\r"}


def test_styles_and_bars_work_on():
    file = StringIO()
    terminal = Terminal(file=file, force_terminal=True, color_system="standard", width=100)
    with Live(Text("one"), console=terminal, auto_refresh=False) as live:
        live.update(Text("two\nthree", "red"), refresh=True)
    assert f"{ESC}[31mtwo{ESC}[0m" in file.getvalue()
    assert f"{ESC}[?25l" in file.getvalue()  # the cursor, hidden by Live itself


def test_what_people_see_of_files_and_failures(capsys):
    column = Column(position=0, name=HOSTILE, format="siren")
    good = Document(source="a", version=1, title=HOSTILE, status="ok", cols=(column,))
    error = ItemError(type="x", message=HOSTILE)
    output.print_files(Results(total=2, hits=(good, good.evolve(error=error))))
    output.print_failures({"a": error})
    output.print_error(HOSTILE)
    said = capsys.readouterr()
    assert not set(said.out + said.err) & {ESC, BEL, CSI, DEL}
    assert "pwned" in said.out
    assert SEEN in said.err


def test_an_analysis_of_a_hostile_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"id;nom{ESC}]0x{BEL}\n1;{ESC}[2Ja\n2;b\n", encoding="utf-8")
    ended = CliRunner().invoke(main, ["analyse", str(path)])
    assert ended.exit_code == 0, ended.output
    assert not set(ended.output) & {ESC, BEL}
    assert "nom]0x" in ended.output
    assert "[2Ja" in ended.output


def test_json_on_a_terminal_has_no_characters_that_it_obeys(capsys):
    name = "é\x7f\x85\x9b31m\x1b"
    output.print_json_lines([{"nom": name}])
    said = capsys.readouterr().out
    assert said == '{"nom": "é\\u007f\\u0085\\u009b31m\\u001b"}\n'
    assert json.loads(said) == {"nom": name}
