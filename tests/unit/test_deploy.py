"""What deploy/ holds is right: every setting, command and option in it exists, and it is well made.

Why: files for production are read by other programs than ours, and are found wrong at night. No
container is built or run here; docker-compose and systemd check what they can check without.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from nemflow.cli import app
from nemflow.jobs.pace import Working
from nemflow.service.watching import PORT
from nemflow.settings import catalogue, load_settings
from nemflow.telemetry.metrics import PORTS

REPO = Path(__file__).resolve().parents[2]
DEPLOY = REPO / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ROOT = typer.main.get_command(app)
#: Finishing requests, then what runs beside them: see nemflow.service.server.
LONGEST_STOP = 2 * Working().grace_seconds + 15
NO_SETTINGS = {"NEMFLOW_CONFIG", "NEMFLOW_API_KEY", "NEMFLOW_API_KEY_FILE", "NEMFLOW_IMAGE"}


def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file, anchors resolved."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


OURS = {name for name, each in services().items() if "nemflow" in each["image"]}


def is_command(words: list[str]) -> bool:
    """Whether the command line takes these words; nothing is run."""
    context = ROOT.make_context("nemflow", list(words))
    command = ROOT
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
    return True


def unit(path: Path) -> dict[str, list[str]]:
    """The lines of a unit: key -> values, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def seconds(text: str) -> int:
    """``90s``, ``2m`` or ``90`` as seconds."""
    number, word = re.fullmatch(r"(\d+)([sm]?)", text).groups()
    return int(number) * (60 if word == "m" else 1)


def test_every_variable_in_deploy_is_a_setting() -> None:
    """Compose file, units, environment file: no variable that nemflow would refuse or ignore."""
    known = {setting.env for setting in catalogue()} | NO_SETTINGS
    known |= {setting.env + "_FILE" for setting in catalogue()}
    for path in (file for file in DEPLOY.rglob("*") if file.is_file()):
        if "secrets" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\bNEMFLOW_[A-Z_]+\b", text)) <= known, path


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_of_the_compose_file_is_one(name: str) -> None:
    """Words and options are accepted by the command line."""
    assert is_command(services()[name]["command"])


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_command_of_a_unit_is_one(path: Path) -> None:
    """ExecStart and ExecStartPre, with the instance's number in place."""
    lines = unit(path)
    for line in lines["ExecStart"] + lines["ExecStartPre"]:
        program, *words = shlex.split(line.replace("%i", "8600"))
        assert program == "/opt/nemflow/bin/nemflow"
        assert is_command(words)


def test_every_command_told_to_people_is_one() -> None:
    """Also those in the comments of deploy/ that begin with ``run --rm tool``."""
    told = re.findall(r"run --rm tool (.+)", COMPOSE.read_text(encoding="utf-8"))
    assert len(told) >= 3
    for line in told:
        assert is_command(shlex.split(line.partition(" #")[0]))


@pytest.mark.parametrize("page", ["production.md", "ways-in.md", "laptop.md"])
def test_every_command_of_the_pages_for_operators_is_one(page: str) -> None:
    """In blocks and in sentences; numbers and names stand for themselves."""
    text = (REPO / "docs" / page).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    told = re.findall(r"^(?:\$ )?nemflow (?!serves)(.+)$", blocks, re.MULTILINE)
    told += re.findall(r"`nemflow ([^`]+)`", text)
    told = [line for line in told if "…" not in line]
    assert told
    for line in told:
        words = [word.replace("ID", "7") for word in shlex.split(line, comments=True)]
        assert (words[1:] == [] and words[0] in ROOT.commands) or is_command(words), line


def test_a_planted_slip_in_a_command_is_caught() -> None:
    """The tests above can fail."""
    for words in (["serv"], ["serve", "--wokers", "0"], ["worker", "--threads", "none"]):
        with pytest.raises(Exception, match=r"(?i)no such|invalid|should be"):
            is_command(words)


def test_the_services_may_finish_before_they_are_killed() -> None:
    """Compose and systemd wait longer than the grace time with all that comes after it."""
    for name in OURS:
        assert seconds(services()[name]["stop_grace_period"]) > LONGEST_STOP
    for path in UNITS:
        assert seconds(unit(path)["TimeoutStopSec"][0]) > LONGEST_STOP


def test_the_compose_file_keeps_its_promises() -> None:
    """Ready checks, secrets by file, data on volumes, a Redis that throws nothing away."""
    each = services()
    assert "/readyz" in str(each["api"]["healthcheck"]["test"])
    redis = " ".join(each["redis"]["command"])
    assert "--appendonly yes" in redis
    assert "--maxmemory-policy noeviction" in redis
    assert (each["redis"]["profiles"], each["rabbitmq"]["profiles"]) == (["redis"], ["rabbitmq"])
    for name in OURS:
        assert each[name]["read_only"] is True
        assert "spool:/var/lib/nemflow/spool" in each[name]["volumes"]
        assert not any("://" in str(value) for value in each[name]["environment"].values())
    for name in ("postgres", "redis", "rabbitmq"):
        assert any(not volume.startswith(".") for volume in each[name]["volumes"])
        assert "ports" not in each[name]


def test_the_console_is_one_process_beside_the_api() -> None:
    """Without replicas in the compose file; as a unit the API's, with pages, on its own port."""
    console = services()["console"]
    assert "--console" in console["command"]
    assert "deploy" not in console
    assert console["ports"] != services()["api"]["ports"]
    (drop_in,) = (DEPLOY / "systemd").glob("nemflow-api@*.service.d/*.conf")
    said = [line for line in drop_in.read_text().splitlines() if line.startswith("ExecStart=")]
    (whole,) = (line for line in unit(DEPLOY / "systemd" / "nemflow-api@.service")["ExecStart"])
    assert said == ["ExecStart=", f"ExecStart={whole} --console"]


@pytest.mark.parametrize("environment", ["dev", "staging", "production"])
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_the_settings_of_deploy_are_read_whole(tmp_path, broker, environment) -> None:
    """nemflow.toml, the variables of the compose file and the secrets that the script makes."""
    make = ["sh", str(DEPLOY / "make-secrets.sh"), broker, str(tmp_path)]
    subprocess.run(make, check=True, capture_output=True)
    first = (tmp_path / "db_url").read_text(encoding="utf-8")
    subprocess.run(make, check=True, capture_output=True)
    assert (tmp_path / "db_url").read_text(encoding="utf-8") == first
    env = {
        name: str(value).replace("/run/secrets", str(tmp_path))
        for name, value in services()["api"]["environment"].items()
    }
    env |= {"NEMFLOW_CONFIG": str(DEPLOY / "nemflow.toml"), "NEMFLOW_ENVIRONMENT": environment}
    found = load_settings(environ=env)
    host = {"redis": "redis://redis:", "rabbitmq": "amqp://nemflow:"}[broker]
    assert (found.text("queue.url") or "").startswith(host)
    password = (tmp_path / "db_password").read_text(encoding="utf-8")
    assert re.fullmatch(r"[A-Za-z0-9]{40}", password)
    assert found.db == f"postgresql://nemflow:{password}@postgres:5432/meters"
    assert (tmp_path.stat().st_mode & 0o777) == 0o700


def test_the_script_for_secrets_refuses_another_broker(tmp_path) -> None:
    """Exit 2 and its usage; nothing is written."""
    done = subprocess.run(
        ["sh", str(DEPLOY / "make-secrets.sh"), "kafka", str(tmp_path / "x")],
        check=False,
        capture_output=True,
    )
    assert (done.returncode, (tmp_path / "x").exists()) == (2, False)


@pytest.mark.parametrize("profiles", [[], ["redis"], ["rabbitmq"], ["redis", "rabbitmq", "tool"]])
def test_docker_compose_accepts_the_file(profiles) -> None:
    """Debian's docker-compose reads it, with each broker; needs no engine."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed (Debian: apt-get install docker-compose)")
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    done = subprocess.run(
        [program, "-f", str(COMPOSE), *chosen, "config"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = set(yaml.safe_load(done.stdout)["services"])
    assert {"api", "worker", "postgres", *profiles} <= told


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_units(path: Path, tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say; the program's place is this one's."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    here = Path(sys.executable).with_name("nemflow")
    text = path.read_text(encoding="utf-8").replace("/opt/nemflow/bin/nemflow", str(here))
    copy = tmp_path / path.name.replace("@", "@8600")
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [program, "verify", "--man=no", str(copy)], check=False, capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if path.stem.rstrip("@") in line]
    assert (done.returncode, said) == (0, [])


def test_the_image_is_built_from_what_is_there() -> None:
    """Each COPY names something that is there and not ignored; an ordinary user runs it."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    ignored = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (REPO / source).exists(), source
            assert any(fnmatch(source, f"{each}*") for each in kept), source
    assert re.findall(r"^USER (\d+)", text, re.MULTILINE)[-1] != "0"
    assert 'ENTRYPOINT ["nemflow"]' in text


def test_the_image_holds_every_extra_of_the_service_as_it_was_tested() -> None:
    """requirements/service.in has the extras' requirements; the versions are those of dev.lock."""
    extras = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        each
        for name in ("service", "console", "tracing", "postgres")
        for each in extras["optional-dependencies"][name]
        if not each.startswith("nemflow[")
    }
    folder = REPO / "requirements"
    assert wanted <= set((folder / "service.in").read_text(encoding="utf-8").splitlines())

    def pins(name: str) -> set[str]:
        text = (folder / name).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9-]+==[^ ]+)", text, re.MULTILINE))

    assert pins("service.lock")
    assert pins("service.lock") <= pins("dev.lock")


def test_no_metrics_port_is_a_port_of_the_service() -> None:
    """A worker that starts first must not take the place of the second API process."""
    said = (REPO / "docs" / "production.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix in {".yaml", ".toml", ".service", ".yml"}:
            said += path.read_text(encoding="utf-8")
    found = re.findall(r"(?:nemflow-api@|127\.0\.0\.1:)(86\d\d)", said)
    assert {"8600", "8601"} <= set(found)
    assert not {int(port) for port in found} & set(range(PORT, PORT + PORTS))
