"""``nemflow config``: what is set, where it comes from, what it means; secrets are never shown."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from nemflow import settings
from nemflow.cli import app
from nemflow.cli.location import without_password
from nemflow.cli.serving import _hand_down
from nemflow.settings import words

FILE = """
db = "postgresql://meters:hunter2@db.example/meters"
[limits]
total_bytes = "4 GiB"
[environments.dev]
[environments.staging]
queue.url = "redis://:hunter2@queue.example:6379/0"
value_limits = { "E1 kWh" = 50 }
"""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings file above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nemflow.toml").write_text(FILE, encoding="utf-8")
    return tmp_path


def run(*args: str, env: dict[str, str] | None = None) -> SimpleNamespace:
    """The command line in this process; stderr with the rest."""
    done = CliRunner().invoke(app, list(args), env=env)
    return SimpleNamespace(code=done.exit_code, out=done.stdout, said=done.output)


def shown(*args: str, env: dict[str, str] | None = None) -> dict[str, dict[str, object]]:
    """``config show --json`` by key."""
    done = run(*args[:-1], "config", "show", *args[-1:], "--json", env=env)
    assert done.code == 0, done.said
    return {row["key"]: row for row in json.loads(done.out)}


def test_every_setting_is_shown_with_its_source_and_meaning(empty_folder) -> None:
    """File, overlay, variable, secret file and default; nothing is left out."""
    (empty_folder / "size").write_text("7\n", encoding="utf-8")
    env = {"NEMFLOW_PROFILE": "b2b", "NEMFLOW_POOL_SIZE_FILE": "size"}
    rows = shown("--environment", "staging", "--json", env=env)
    assert list(rows) == [setting.key for setting in settings.catalogue()]
    assert {key: rows[key]["origin"] for key in ("environment", "db", "queue.url")} == {
        "environment": "command line",
        "db": "nemflow.toml",
        "queue.url": "nemflow.toml [environments.staging]",
    }
    assert rows["profile"]["origin"] == "environment NEMFLOW_PROFILE"
    assert (rows["pool.size"]["value"], rows["pool.size"]["origin"]) == (
        7,
        "size (NEMFLOW_POOL_SIZE_FILE)",
    )
    assert (rows["limits.total_bytes"]["value"], rows["limits.depth"]["value"]) == (4 * 2**30, 3)
    assert rows["limits.depth"]["origin"] == "default"
    assert rows["value_limits"]["value"] == {"E1 kWh": 50}
    assert all(row["meaning"] for row in rows.values())


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["db"], ["--changed"]])
def test_passwords_are_in_no_form_of_output(form) -> None:
    """What config show prints may be pasted into a ticket."""
    done = run("--environment", "staging", "config", "show", *form)
    assert done.code == 0
    assert "meters:***@db.example" in done.out
    assert "hunter2" not in done.said


def test_a_secret_setting_is_not_shown_at_all(monkeypatch) -> None:
    """Whatever it holds: keys have no part that may be read."""
    known = (words.Setting("profile", "x", "y", "z", secret=True),)
    monkeypatch.setattr(settings, "catalogue", lambda: known)
    done = run("config", "show", "--json", env={"NEMFLOW_PROFILE": "b2b"})
    assert json.loads(done.out)[0]["value"] == "***"
    assert "b2b" not in done.said


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("postgresql://a:s@h/x", "postgresql://a:***@h/x"),
        ("postgresql://a:s?t@h/x", "postgresql://a:***@h/x"),
        ("postgresql:///x?user=a&password=s", "postgresql:///x?user=a&password=***"),
        ("https://h/x?Token=s&y=1", "https://h/x?Token=***&y=1"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("data/a.db", "data/a.db"),
    ],
)
def test_what_is_secret_in_a_url_is_masked(url, hidden) -> None:
    """Before the host, and in the query."""
    assert without_password(url) == hidden


def test_one_setting_one_table_or_only_what_is_changed() -> None:
    """And a table for people says sizes as people write them."""
    assert list(shown("limits.depth")) == ["limits.depth"]
    assert {key.partition(".")[0] for key in shown("pool")} == {"pool"}
    assert set(shown("--changed")) == {"db", "limits.total_bytes"}
    assert "4 GiB" in run("config", "show", "limits.total_bytes").out
    assert len(list(csv.DictReader(io.StringIO(run("config", "show", "--csv").out)))) > 50


def test_an_unknown_key_is_wrong_usage_with_a_suggestion() -> None:
    """Of settings and of tables."""
    done = run("config", "show", "limits.dept")
    assert done.code == 2
    assert "limits.depth" in done.said
    assert "Did you mean pool?" in run("config", "show", "poool").said


def test_check_says_that_all_is_right_or_what_is_wrong(empty_folder) -> None:
    """Exit 0 and 2; nothing is opened or made."""
    done = run("--environment", "dev", "config", "check")
    assert (done.code, "environment dev" in done.out) == (0, True)
    assert json.loads(run("config", "check", "--json").out)[0]["file"] == "nemflow.toml"
    done = run("config", "check", env={"NEMFLOW_SPOOL_KEEP_AFTER": "archive"})
    assert (done.code, "spool.archive" in done.said) == (2, True)
    done = run("--environment", "live", "config", "check")
    assert (done.code, "Unknown environment" in done.said) == (2, True)
    assert [path.name for path in empty_folder.iterdir()] == ["nemflow.toml"]


def test_workers_are_handed_what_the_command_line_said_and_no_secret(monkeypatch, tmp_path) -> None:
    """A URL from a secret file stays out of every environment; one that was typed wins over it."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://a:hunter2@h/x", encoding="utf-8")
    for name in ("NEMFLOW_DB", "NEMFLOW_QUEUE_URL", "NEMFLOW_ENVIRONMENT"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEMFLOW_DB_FILE", str(secret))
    monkeypatch.setenv("NEMFLOW_SPOOL_FOLDER", "spool")
    _hand_down(settings.load_settings(given={"environment": "dev"}))
    assert os.environ["NEMFLOW_ENVIRONMENT"] == "dev"
    assert "NEMFLOW_DB" not in os.environ
    typed = {"db": "other.db", "queue.url": "redis://h/1", "environment": "dev"}
    _hand_down(settings.load_settings(given=typed))
    assert os.environ["NEMFLOW_QUEUE_URL"] == "redis://h/1"
    again = settings.load_settings()
    assert (again.db, again.text("queue.url")) == ("other.db", "redis://h/1")
