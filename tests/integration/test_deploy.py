"""The scripts and units of deploy/, run as an operator runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers.compose import PASSWORDS, ROOT, compose, dotenv, variables

DEPLOY = ROOT / "deploy"


# --- the passwords ---


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what a checkout has beside .env."""
    (tmp_path / "a checkout").mkdir()
    shutil.copytree(DEPLOY, tmp_path / "a checkout" / "deploy")
    return tmp_path / "a checkout"


def make_env(checkout: Path) -> str:
    """Run deploy/make-env from another folder; return what it printed."""
    command = [checkout / "deploy" / "make-env"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return done.stdout


def test_make_env_makes_passwords_that_every_service_accepts(checkout: Path):
    printed = make_env(checkout)
    file = checkout / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    made = dotenv(file)
    assert set(made) == set(PASSWORDS)
    random = [value.rpartition(":")[2] for value in made.values()]
    assert len(set(random)) == len(PASSWORDS)
    assert not [one for one in random if not re.fullmatch("[0-9a-f]{48}", one) or one in printed]
    assert made["FLOWER_BASIC_AUTH"].startswith("datafab:")
    services = compose(made)["services"]
    assert made["REDIS_PASSWORD"] in services["worker-io"]["environment"]["DATAFAB_REDIS_URL"]
    # Comments and commented settings of the example are there to be edited.
    example = (DEPLOY / "env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")] == [
        line for line in example if line.startswith("#")
    ]
    assert {file.name for file in checkout.iterdir()} == {".env", "deploy"}
    # Another run changes nothing, and another checkout gets other passwords.
    before = file.read_bytes()
    make_env(checkout)
    assert file.read_bytes() == before
    file.unlink()
    make_env(checkout)
    assert not set(random) & {value.rpartition(":")[2] for value in dotenv(file).values()}


def test_make_env_adds_what_a_former_version_did_not_need(checkout: Path):
    file = checkout / ".env"
    file.write_text("FLOWER_BASIC_AUTH=me:mine\nREDIS_PASSWORD=\n#MQTT_PASSWORD=x\nDATAFAB_INDEX_PASSWORD=a$b/c&d")
    file.chmod(0o644)
    make_env(checkout)
    made = dotenv(file)
    assert set(made) == set(PASSWORDS)
    assert made["FLOWER_BASIC_AUTH"] == "me:mine"
    assert made["DATAFAB_INDEX_PASSWORD"] == "a$b/c&d"  # noqa: S105 - of this test
    assert file.read_text().count("REDIS_PASSWORD=") == 1
    assert file.stat().st_mode & 0o777 == 0o600


WEAK = {
    "": "fewer than 16 characters: run deploy/make-env",
    "fifteen-letters": "fewer than 16 characters: run deploy/make-env",
    **dict.fromkeys(
        (
            *(
                "a password of many words",
                "twenty-characters@redis:6379",
                "twenty-characters/0",
                "twenty-characters%41",
            ),
            *("quote'quote'quote'quote", "$(touch /tmp/pwned)$(id)", "twenty-characters\n", "twenty-characters:x"),
            *("twenty-characters\nuser other on nopass +@all", "twenty-characters é", '"twenty-characters"', "*" * 20),
        ),
        'use only letters, digits, ".", "_", "~" and "-"',
    ),
}


@pytest.mark.parametrize(
    ("script", "name"),
    [("redis.sh", "REDIS_PASSWORD"), ("mosquitto.sh", "MQTT_PASSWORD"), ("mosquitto.sh", "MQTT_READER_PASSWORD")],
)
def test_a_service_does_not_start_with_a_password_that_is_weak_or_breaks_a_url(tmp_path: Path, script: str, name: str):
    """The programs that the script would run are not there: it refuses before."""
    text = (DEPLOY / script).read_text(encoding="utf-8").replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - the container's
    good = {key: variables()[key] for key in ("REDIS_PASSWORD", "MQTT_PASSWORD")}
    for password, why in WEAK.items():
        if name == "MQTT_READER_PASSWORD" and not password:
            continue  # then there is no reader
        environment = {"PATH": os.defpath} | good | {name: password}
        done = subprocess.run(
            ["sh"], input=text, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 1, repr(password)
        assert done.stderr.startswith(f"{name} in .env"), done.stderr
        assert why in done.stderr, repr(password)
        assert not password or password not in done.stderr
    assert not list(tmp_path.glob("*.acl"))


# --- the units of systemd ---

UNITS = DEPLOY / "systemd"
COMMON = UNITS / "datafab-.service.d" / "hardening.conf"
#: The service of docker-compose.yml that does what a unit does.
SERVICES = {file.stem: file.stem.removeprefix("datafab-") for file in UNITS.glob("*.service")}


def read(file: Path) -> dict[str, list[str]]:
    """Return the lines of a unit by their keys."""
    found: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def size(text: str) -> int:
    """Return the bytes of a size such as 512m or 2G."""
    return int(text[:-1]) << {"m": 20, "g": 30}[text[-1].lower()]


def options(words: list[str]) -> list[str]:
    """Return the words of a command in any order, without those that differ: logs, and what the server binds."""
    own = {"-l", "INFO", "WARNING", "--bind=0.0.0.0:8800"}
    text = " ".join(word for word in words if word not in own).replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - a word
    return sorted(text.replace("=", " ").split())


def test_there_is_a_unit_for_each_process_and_one_for_datafab_up():
    processes = set(compose(variables())["services"]) - {"redis", "mosquitto", "elasticsearch"}
    assert set(SERVICES.values()) == processes | {"up"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_unit_runs_the_command_of_its_container_within_the_same_limits(name: str):
    unit, common = read(UNITS / f"{name}.service"), read(COMMON)
    # systemd reads the common file last, so a key of both would not be the unit's.
    assert not (set(unit) & set(common))
    (command,) = unit["ExecStart"]
    program, *words = command.replace("%%", "%").split()
    assert program.startswith("/opt/datafab/bin/")
    assert int(unit["TimeoutStopSec"][0]) >= 40
    if name == "datafab-up":
        assert words == ["up"]
        return
    service = compose(variables())["services"][SERVICES[name]]
    assert options([Path(program).name, *words]) == options(service["command"])
    assert size(unit["MemoryMax"][0]) == size(service["mem_limit"])
    assert int(unit["TasksMax"][0]) == service["pids_limit"]


def test_units_may_do_little_and_stop_in_order():
    common = read(COMMON)
    for key, value in {
        "User": "datafab", "KillMode": "mixed", "OOMPolicy": "continue", "NoNewPrivileges": "yes",
        "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
        "CapabilityBoundingSet": "", "RestrictNamespaces": "yes", "SystemCallFilter": "@system-service",
    }.items():  # fmt: skip
        assert common[key] == [value], key


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a host on which the units are installed as docs/deploy.md says."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze (apt install systemd)")
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(UNITS, root / "etc" / "systemd" / "system")
    shutil.copytree("/usr/lib/systemd/system", root / "usr" / "lib" / "systemd" / "system", symlinks=True)
    programs = root / "opt" / "datafab" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "datafab"):
        (programs / name).touch(0o755)
    return root


def analyse(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the units below a folder."""
    command = ["systemd-analyze", f"--root={root}", "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_systemd_takes_the_units(installed: Path):
    folder = installed / "etc" / "systemd" / "system"
    done = analyse(installed, "--man=no", "verify", *(str(folder / f"{name}.service") for name in sorted(SERVICES)))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for name in SERVICES:
        # The scale is from 0 to 10; without the common file, it is 9.
        done = analyse(installed, "security", "--offline=true", "--threshold=20", f"{name}.service")
        assert done.returncode == 0, done.stdout[-300:]


def test_systemd_says_what_is_wrong_with_a_unit(installed: Path):
    """Show that the test above can fail."""
    spoilt = installed / "etc" / "systemd" / "system" / "spoilt.service"
    spoilt.write_text((UNITS / "datafab-beat.service").read_text(encoding="utf-8").replace("MemoryMax", "MemoryMost"))
    assert "Unknown key 'MemoryMost'" in analyse(installed, "--man=no", "verify", str(spoilt)).stderr
    assert analyse(installed, "security", "--offline=true", "--threshold=20", "spoilt.service").returncode != 0
    spoilt.unlink()
