"""datafab.toml: what it can say, and that every error names its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.core.flow import Flow
from datafab.core.item import MAX_MESSAGE_BYTES, Batch
from datafab.errors import SettingError
from datafab.flows.chains import STAGES
from datafab.flows.lines import KeyLines
from datafab.flows.toml import examine, read
from workers.schedule import cron

#: As the built-in one, and small enough to stay so.
COLLECT = Flow(
    name="collect",
    title="collect",
    producer="endpoints",
    stages=("collect",),
    then=("analyse", "index"),
    requires=frozenset({"endpoints", "collection"}),
    files=frozenset({"endpoints"}),
    folders=frozenset({"collection"}),
)
KNOWN = {"collect": COLLECT}

GOOD = """\
# Les flux du département
[[flow]]
name = "communes"
source = "endpoints"
stages = [
  "collect",
  "analyse",  # name = "no key"
  "index",
]
on = "schedule"
schedule = "0 6 * * 1-5"
with = { endpoints = "endpoint.csv", collection = "https://s3.example.fr/été" }
when = { analyse = "media_type = 'text/csv'" }

[[flow]]
name = "communes-2"
source = "communes"
[flow.with]
retry_failed = true
collection = "ailleurs"
[flow.when]
index = "size > 0"

[[flow]]
name = "brief"
source = "collect"
stages = []
"""


def problems(folder: Path, text: str | bytes) -> list[tuple[int, str]]:
    file = folder / "datafab.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    flows, found = examine(file, KNOWN, cron)
    assert found == sorted(found)
    assert bool(found) or flows
    assert {problem.path for problem in found} <= {str(file)}
    return [(problem.line, problem.message) for problem in found]


def test_flows_have_the_shape_of_the_built_in_ones(tmp_path):
    file = tmp_path / "datafab.toml"
    file.write_text(GOOD, encoding="utf-8")
    flows = read(file, KNOWN)
    assert list(flows) == ["communes", "communes-2", "brief"]
    communes, second, brief = flows.values()
    assert communes == Flow(
        name="communes",
        title="endpoints > collect > analyse > index",
        producer="endpoints",
        stages=("collect", "analyse", "index"),
        requires=COLLECT.requires,
        files=COLLECT.files,
        folders=COLLECT.folders,
        defaults={"endpoints": str(tmp_path / "endpoint.csv"), "collection": "https://s3.example.fr/été"},
        when={"analyse": "media_type = 'text/csv'"},
        schedule="0 6 * * 1-5",
        where=f"{file}:2",
    )
    assert not communes.needs
    assert second.defaults == communes.defaults | {"retry_failed": True, "collection": str(tmp_path / "ailleurs")}
    assert second.when == {"analyse": "media_type = 'text/csv'", "index": "size > 0"}
    assert (second.stages, second.then, second.schedule) == (communes.stages, (), "")
    assert (brief.stages, brief.then, brief.needs) == (("collect",), (), COLLECT.requires)


#: A sound table but for what a test adds; it begins on line 1 and has 4 lines.
SOUND = '[[flow]]\nname = "f"\nsource = "endpoints"\nstages = ["collect", "analyse", "index"]\n'
WITH = 'with = { endpoints = "e.csv", collection = "c" }\n'
COLLECTED = '[[flow]]\nname = "f"\nsource = "collect"\n'


def sound(*lines: str) -> str:
    return SOUND + "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        # the file
        ("[[flow]\n", 1, "not valid TOML: "),
        ("[[flow]]\nname = \n", 2, "not valid TOML: "),
        ('[[flow]]\nname = "a', 2, "not valid TOML: "),
        ("# é\n[[flow]]\nname = 'é'\n".encode("cp1252"), 1, "the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("\n\n# n° é\n".encode("cp1252"), 3, "the byte 0xb0 is not UTF-8"),
        ('lease = 3\n[[flow]]\nname = "a"', 1, "lease: only [[flow]] tables are allowed; settings are DATAFAB_..."),
        ("\n[flows]\n[[flows.x]]\n", 2, "flows: only [[flow]] tables are allowed"),
        ('\n[flow]\nname = "a"\n', 2, "flow: write [[flow]] with double brackets"),
        ("\nflow = 3\n", 2, "flow: write [[flow]]"),
        ("flow = [1]\n", 1, "flow number 1: Input should be a valid dictionary"),
        # keys
        (
            '[[flow]]\nsource = "endpoints"\n',
            1,
            "flow number 1, name: is missing; a flow has name, source, stages, on,",
        ),
        ('\n[[flow]]\nname = "f"\n', 2, "flow 'f', source: is missing"),
        (sound("stage = []"), 5, "flow 'f', stage: no such key; did you mean 'stages'?"),
        (sound("", "retention = 3"), 6, "flow 'f', retention: no such key; a flow has name, source, stages, on, sched"),
        (
            '[[flow]]\nname = "Été"\nsource = "collect"',
            2,
            "flow 'Été', name: use lower-case letters, digits, - and _, beg",
        ),
        ('[[flow]]\nname = 3\nsource = "collect"', 2, "flow 3, name: Input should be a valid string, not 3"),
        ('[[flow]]\nname = "f"\nsource = "collect"\nstages = "index"', 4, "flow 'f', stages: Input should be a valid"),
        ('[[flow]]\nname = "f"\nsource = "collect"\nstages = ["index", 3]', 4, "valid string, not 3"),
        (sound('on = "tuesday"'), 5, "flow 'f', on: Input should be 'event' or 'schedule', not 'tuesday'"),
        (sound("with = 3"), 5, "flow 'f', with: Input should be a valid dictionary"),
        (sound("[flow.when]", "index = 3"), 6, "flow 'f', when.index: Input should be a valid string, not 3"),
        # names
        (
            '[[flow]]\nname = "collect"\nsource = "collect"',
            2,
            "flow 'collect', name: a built-in flow has this name; ch",
        ),
        (COLLECTED + "\n" + COLLECTED, 6, "datafab.toml:1 has this name; choose another"),
        # sources and stages
        (
            '[[flow]]\nname = "f"\nsource = "endpoint"',
            3,
            "source: 'endpoint' is neither a source stage nor a flow; the",
        ),
        ('[[flow]]\nname = "f"\nsource = "analyse"', 3, "source: 'analyse' takes items and yields none; there"),
        ('[[flow]]\nname = "f"\nsource = "f"', 3, "source: 'f' is neither a source stage nor a flow"),
        ('[[flow]]\nname = "f"\nsource = "endpoints"', 1, "stages: is missing or empty; only a flow that builds on an"),
        (COLLECTED + 'stages = ["anlyse"]', 4, "flow 'f', stages: no stage 'anlyse'; did you mean 'analyse'?"),
        (COLLECTED + 'stages = ["zzz"]', 4, "flow 'f', stages: no stage 'zzz'; there are address, analyse, "),
        (COLLECTED + 'stages = ["collect"]', 4, "flow 'f', stages: stage 'collect' occurs twice"),
        (COLLECTED + 'stages = ["endpoints"]', 4, "stage 'endpoints' yields a job's items: it can only come first"),
        ('[[flow]]\nname = "f"\nsource = "endpoints"\nstages = ["analyse"]', 4, "stage 'analyse' needs sha256, which"),
        # starts
        (sound('on = "schedule"', WITH), 5, "flow 'f', on: needs a schedule, e.g. schedule = "),
        (sound('on = "event"', 'schedule = "* * * * *"', WITH), 6, 'schedule: there is a schedule, but on = "event"'),
        (sound('schedule = "* * * *"', WITH), 5, "schedule: '* * * *' has 4 fields; a crontab has 5: minute, hour, d"),
        (sound('schedule = "* 6;7 * * *"', WITH), 5, "schedule: '* 6;7 * * *': '6;7' is none of *, 5, 1-5, */15,"),
        (sound('schedule = "*/5/2 * * * *"', WITH), 5, "'*/5/2' is none of"),
        (sound('schedule = "0 24 * * *"', WITH), 5, "schedule: '0 24 * * *': Invalid end range: 24 > 23."),
        (sound('schedule = "0 0 30 2 *"', WITH), 5, "day_of_month '30' never occurs in month_of_year '2'"),
        (sound('schedule = "*/0 * * * *"', WITH), 5, "schedule: '*/0 * * * *': slice step cannot be zero"),
        (sound('schedule = "0 6 1 * mon"', WITH), 5, "names days of the month and of the week, which programs"),
        (
            sound('schedule = "0 6 * * *"'),
            1,
            "flow 'f', with: a flow with a schedule has to set all parameters that it needs; add collection, endpoints",
        ),
        (
            sound('schedule = "0 6 * * *"', "with.endpoints = 'x'"),
            6,
            "with: a flow with a schedule has to set all parameters that it needs; add collecti",
        ),
        # parameters
        (
            sound('with = { a = "http://u:geheim@e.org" }'),
            5,
            "with.a: a user or a password would be visible in messages",
        ),
        (
            sound('with = { a = 1, api_key = "x" }'),
            5,
            "with.api_key: a secret would be visible in messages and listings",
        ),
        (sound("[flow.with]", "then = ['index']"), 6, "with.then: use the key `stages` of the flow instead"),
        (sound("with.when = {}"), 5, "with.when: use the key `when`"),
        (
            sound("[flow.with]", "a = 1", "day = 2026-01-31"),
            7,
            "with.day: datetime.date(2026, 1, 31) is not a JSON valu",
        ),
        (sound("with = { n = nan }"), 5, "with.n: nan is not a JSON value"),
        (sound(f"with = {{ text = '{'é' * 800}' }}"), 5, "with: `with` and `when` are larger than 2048 bytes"),
        # conditions
        (sound("[flow.when]", "index = 'size >> 3'"), 6, "when.index: condition 'size >> 3': "),
        (sound("when = { push_ = 'size > 3' }"), 5, "when.push_: a condition for 'push_', which is no stage of this"),
        (sound("when.collect = 'size > 3'"), 5, "when.collect: the condition of 'collect' names size, which no stag"),
        (sound("when.analyse = 'formats has siret'"), 5, "the condition of 'analyse' names analysis, which no stage"),
        (sound("when.collect = 'url has csv'"), 4, "stages: stage 'analyse' needs sha256, which is set only when"),
        (COLLECTED + "when.collect = 'url has x'", 3, "source: stage 'analyse' needs sha256, which is set only when"),
    ],
)
def test_an_error_names_its_line(tmp_path, text, line, says):
    found = problems(tmp_path, text)
    assert any(at == line and says in message for at, message in found), found


def test_all_errors_are_told_at_once(tmp_path):
    text = '[[flow]]\nname = "a"\nsource = "x"\n\n[[flow]]\nname = "b"\nsource = "collect"\nstages = ["y", "z"]\n'
    text += "when.y = '?'\n" + SOUND
    found = problems(tmp_path, text)
    assert [line for line, _ in found] == [3, 8, 8, 9]
    file = tmp_path / "datafab.toml"
    with pytest.raises(SettingError) as raised:
        read(file, KNOWN)
    assert raised.value.field == "DATAFAB_CONFIG"
    assert len(raised.value.message.splitlines()) == 4
    assert list(examine(file, KNOWN)[0]) == ["f"]


def test_a_file_that_is_not_there_says_which_setting_names_it(tmp_path):
    with pytest.raises(SettingError, match=r"nowhere.toml: No such file or directory; DATAFAB_CONFIG names the file"):
        read(tmp_path / "nowhere.toml", KNOWN)


@pytest.mark.parametrize(
    "text", ["", "# rien\n", "\ufeff[[flow]]\nname='f'\nsource='collect'\n", SOUND.replace("\n", "\r\n")]
)
def test_odd_files_that_are_right(tmp_path, text):
    file = tmp_path / "datafab.toml"
    file.write_bytes(text.encode())
    assert set(read(file, KNOWN)) <= {"f"}


@pytest.mark.parametrize("condition", ["media_type = text/csv", "media_type = text/csv and size > 3"])
def test_what_is_there_under_a_condition_serves_those_with_the_same(tmp_path, condition):
    text = sound(f"when = {{ analyse = 'media_type = text/csv', index = '{condition} and formats has siret' }}")
    file = tmp_path / "datafab.toml"
    file.write_text(text)
    assert read(file, KNOWN)


def test_a_key_is_found_behind_strings_of_several_lines():
    text = '[[flow]]\na = """\n[[flow]]\nb = 1\n# """\nb = 2 # c = 3\n"d e".f = \'\'\'\nx = 1\'\'\'\n[[flow]]\nb = 3\n'
    lines = KeyLines.scan(text)
    assert [lines.of("flow", 0, key) for key in ("a", "b", "c", "d e")] == [2, 6, 1, 7]
    assert lines.of("flow", 0, "d e", "f") == 7
    assert (lines.of("flow", 1), lines.of("flow", 1, "b"), lines.of("flow", 1, "x")) == (9, 10, 9)
    assert lines.of("nothing") == 1


@given(st.lists(st.sampled_from(["", "# [[flow]]", 'a = "[[flow]]"', "b.c = ['x = 1']", "[flow.d]", '"é" = 1'])))
def test_tables_are_counted_whatever_stands_between(noise: list[str]):
    text = "\n".join(["[[flow]]", *noise, "[[flow]]", "z = 1"])
    assert KeyLines.scan(text).of("flow", 1, "z") == len(noise) + 3


@given(
    st.dictionaries(st.sampled_from(sorted(STAGES)), st.text(max_size=100), max_size=5),
    st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=50), max_size=5),
)
def test_a_batch_with_conditions_survives_json(when: dict[str, str], given: dict[str, object]):
    batch = Batch(job="0" * 32, flow="f", params={**given, "when": when})
    assert Batch.model_validate(json.loads(json.dumps(batch.dump()))) == batch


def test_what_a_flow_may_give_leaves_room_in_a_message(tmp_path):
    room = 2048 - len('[{"text": ""}, {}]')
    file = tmp_path / "datafab.toml"
    file.write_text(sound(f"with = {{ text = '{'x' * room}' }}"))
    flow = read(file, KNOWN)["f"]
    params = {**flow.defaults, "when": dict(flow.when)}
    assert len(json.dumps(Batch(job="0" * 32, flow="f", params=params).dump())) < MAX_MESSAGE_BYTES // 4 + 200
