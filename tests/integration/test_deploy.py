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
    assert made["DATAFAB_INDEX_PASSWORD"] == "a$b/c&d"
    assert file.read_text().count("REDIS_PASSWORD=") == 1
    assert file.stat().st_mode & 0o777 == 0o600


WEAK = {
    "": "fewer than 16 characters: run deploy/make-env",
    "fifteen-letters": "fewer than 16 characters: run deploy/make-env",
    **dict.fromkeys(
        (
            *("a password of many words", "twenty-characters@redis:6379", "twenty-characters/0", "twenty-characters%41"),
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
    text = (DEPLOY / script).read_text(encoding="utf-8").replace("/tmp/", f"{tmp_path}/")
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
