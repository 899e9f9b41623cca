"""Settings: nemflow.toml, then the environment, then the command line; unknown keys are errors."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path

import pytest

from nemflow import settings
from nemflow.errors import UsageError
from nemflow.intake.archive import Limits
from nemflow.mdff.asexml import XmlLimits
from nemflow.pipeline.sizing import Sizes
from nemflow.settings import load_settings
from nemflow.store.backends.pool import Pool

DOCS = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a settings file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    """A settings file in the folder."""
    path = folder / "nemflow.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_the_defaults_hold() -> None:
    """No file, no variables: the documented defaults."""
    found = load_settings(environ={})
    assert found.db == "sqlite:///nemflow.db"
    assert found.profile is None
    assert found.limits == Limits()
    assert found.value_limits == {}
    assert found.file is None


def test_later_sources_win_key_by_key(empty_folder) -> None:
    """The file says three things, the environment two, the command line one."""
    write(empty_folder, 'db = "file.db"\nprofile = "b2b"\nlimits.depth = 5\n')
    env = {"NEMFLOW_DB": "env.db", "NEMFLOW_LIMITS_DEPTH": "7"}
    found = load_settings(environ=env, given={"db": "given.db", "profile": None})
    assert (found.db, found.profile, found.limits.depth) == ("given.db", "b2b", 7)
    assert found.origin == {
        "db": "command line",
        "profile": "nemflow.toml",
        "limits.depth": "environment",
    }


def test_another_file_can_be_named(empty_folder, tmp_path) -> None:
    """By the option, else by NEMFLOW_CONFIG; the option wins."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('db = "one.db"\n', encoding="utf-8")
    two.write_text('db = "two.db"\n', encoding="utf-8")
    env = {"NEMFLOW_CONFIG": str(one)}
    assert load_settings(environ=env).db == "one.db"
    assert load_settings(environ=env, config=two).db == "two.db"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('profil = "b2b"\n', ["profil ", "Did you mean profile?"]),
        ("limits.dept = 3\n", ["limits.dept", "limits.depth"]),
        ("[limits]\nmembrs = 3\n", ["limits.membrs", "limits.members"]),
        ('profile = "strict"\n', ["strict", "portal, b2b"]),
        ("profile = 3\n", ["profile", "text"]),
        ('db = ""\n', ["db", "text"]),
        ("limits.depth = 0\n", ["limits.depth", "above 0"]),
        ("limits.depth = true\n", ["limits.depth"]),
        ('limits.total_bytes = "2 elephants"\n', ["limits.total_bytes", "512 MiB"]),
        ('value_limits = { "E1" = 5 }\n', ["value_limits", "E1 kWh"]),
        ('value_limits = { "E1 kWh" = -5 }\n', ["value_limits"]),
        ('value_limits = { "E1 miles" = 5 }\n', ["value_limits"]),
        ('value_limits = "E1 kWh"\n', ["value_limits"]),
        ("db = \n", ["nemflow.toml", "TOML"]),
    ],
)
def test_a_wrong_setting_says_which_where_and_what_instead(empty_folder, text, said) -> None:
    """Nothing is ignored in silence; the message holds the next step."""
    write(empty_folder, text)
    with pytest.raises(UsageError) as caught:
        load_settings(environ={})
    for part in said:
        assert part in str(caught.value)


def test_an_unknown_variable_is_an_error_too() -> None:
    """A typing mistake in the environment does not go unnoticed."""
    with pytest.raises(UsageError, match=r"NEMFLOW_PROFIL .*NEMFLOW_PROFILE"):
        load_settings(environ={"NEMFLOW_PROFIL": "b2b"})


def test_other_variables_with_our_prefix_are_no_settings() -> None:
    """Debugging and the tests' own variables do not count."""
    env = {"NEMFLOW_DEBUG": "1", "NEMFLOW_SAMPLES": "x", "NEMFLOW_TEST_URL": "y", "OTHER": "z"}
    assert load_settings(environ=env) == load_settings(environ={})


def test_a_missing_named_file_is_wrong_usage() -> None:
    """A file that was named and is not there is never taken as empty."""
    with pytest.raises(UsageError, match="no settings file"):
        load_settings(environ={}, config=Path("nowhere.toml"))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("3", 3),
        ("100_000", 100_000),
        ('"512 MiB"', 512 * 2**20),
        ('"1GB"', 10**9),
        ('"2 KiB"', 2048),
    ],
)
def test_sizes_may_be_written_as_people_write_them(empty_folder, written, number) -> None:
    """Plain numbers and sizes with units."""
    write(empty_folder, f"limits.total_bytes = {written}\n")
    assert load_settings(environ={}).limits.total_bytes == number


def test_value_limits_from_file_and_environment(empty_folder) -> None:
    """Per suffix (or any) and unit in its canonical spelling; the environment replaces all."""
    write(empty_folder, 'value_limits = { "e1 KWH" = 50, "* V" = 300.5 }\n')
    wanted = {("E1", "kWh"): Decimal(50), ("*", "V"): Decimal("300.5")}
    assert load_settings(environ={}).value_limits == wanted
    env = {"NEMFLOW_VALUE_LIMITS": "E1 kWh=10, B1 kWh=5"}
    wanted = {("E1", "kWh"): Decimal(10), ("B1", "kWh"): Decimal(5)}
    assert load_settings(environ=env).value_limits == wanted


def test_every_example_of_the_catalogue_is_a_valid_line(empty_folder) -> None:
    """What the docs show can be typed."""
    for setting in settings.catalogue():
        write(empty_folder, setting.example + "\n")
        assert setting.key in load_settings(environ={}).origin


@pytest.mark.parametrize(
    ("table", "room"), [("limits", Limits), ("xml", XmlLimits), ("pool", Pool), ("load", Sizes)]
)
def test_every_limit_can_be_set(table, room) -> None:
    """A new field of a room's value object cannot be forgotten here."""
    keys = {setting.key for setting in settings.catalogue()}
    assert {f"{table}.{each.name}" for each in dataclasses.fields(room)} <= keys


def test_tables_become_the_value_objects_of_their_rooms(empty_folder) -> None:
    """From the file and the environment, over the defaults."""
    write(empty_folder, '[pool]\nsize = 9\n[xml]\ndepth = 7\n[load]\nchunk_bytes = "1 MiB"\n')
    env = {"NEMFLOW_POOL_LOCK_SECONDS": "5", "NEMFLOW_LOAD_JOBS": "3"}
    found = load_settings(environ=env)
    assert found.pool == Pool(size=9, lock_seconds=5)
    assert found.xml_limits == XmlLimits(depth=7)
    assert found.sizes == Sizes(jobs=3, chunk_bytes=2**20)


def test_auto_is_as_if_it_were_not_set(empty_folder) -> None:
    """So that the command line can take a pinned number back; only sizes of a load know it."""
    write(empty_folder, "load.jobs = 4\n")
    assert load_settings(environ={}, given={"load.jobs": "auto"}).sizes == Sizes()
    write(empty_folder, 'pool.size = "auto"\n')
    with pytest.raises(UsageError, match=r"pool\.size"):
        load_settings(environ={})


@pytest.mark.parametrize("setting", settings.catalogue(), ids=lambda setting: setting.key)
def test_every_setting_is_documented(setting: settings.Setting) -> None:
    """Key, variable, meaning, default and example stand on the settings page."""
    text = DOCS.read_text(encoding="utf-8")
    for part in (setting.key, setting.env, setting.what, setting.default, setting.example):
        assert part in text, part
