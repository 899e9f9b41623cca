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
from nemflow.settings import features, load_settings
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
        "limits.depth": "environment NEMFLOW_LIMITS_DEPTH",
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


# --- environments ---------------------------------------------------------------------------

OVERLAID = """
db = "base.db"
pool.size = 3
[environments.dev]
[environments.staging]
db = "staging.db"
features.metrics = false
"""


def test_an_environments_overlay_lies_over_the_file_and_below_the_variables(empty_folder) -> None:
    """Key by key; the origin names the overlay; another environment leaves the file as it is."""
    write(empty_folder, OVERLAID)
    found = load_settings(environ={}, given={"environment": "staging"})
    assert (found.environment, found.db, found.pool.size) == ("staging", "staging.db", 3)
    assert found.origin["db"] == "nemflow.toml [environments.staging]"
    assert not found.on("metrics")
    env = {"NEMFLOW_ENVIRONMENT": "staging", "NEMFLOW_DB": "env.db"}
    assert load_settings(environ=env).db == "env.db"
    plain = load_settings(environ={"NEMFLOW_ENVIRONMENT": "dev"})
    assert (plain.db, plain.on("metrics")) == ("base.db", True)
    assert load_settings(environ={}).environment is None


def test_the_file_may_name_its_environment_and_later_sources_win(empty_folder) -> None:
    """Environment in the file, then the variable, then the option."""
    write(empty_folder, 'environment = "staging"\n' + OVERLAID)
    assert load_settings(environ={}).db == "staging.db"
    env = {"NEMFLOW_ENVIRONMENT": "dev"}
    assert load_settings(environ=env).environment == "dev"
    assert load_settings(environ=env, given={"environment": "staging"}).environment == "staging"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (OVERLAID, "stagging", ["stagging", "Did you mean staging?"]),
        (OVERLAID, "production", ["production", "an empty [environments.production]"]),
        ("", "prodction", ["Did you mean production?"]),
        ('[environments.dev]\nenvironment = "dev"\n', "dev", ["names no environment"]),
        ("environments = 3\n", "dev", ["must be tables"]),
        ('environment = ""\n', None, ["environment", "text"]),
    ],
)
def test_a_wrong_environment_is_an_error_with_the_next_step(empty_folder, text, name, said) -> None:
    """A mistyped name never means the settings of another environment."""
    write(empty_folder, text)
    with pytest.raises(UsageError) as caught:
        load_settings(environ={}, given={"environment": name})
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("line", ["pool.sise = 3", 'pool.size = "many"'])
def test_a_slip_in_an_overlay_that_is_not_in_use_is_told_as_well(empty_folder, line) -> None:
    """Production's overlay is read on the laptop too, before it is needed at night."""
    write(empty_folder, f"[environments.dev]\n[environments.production]\n{line}\n")
    with pytest.raises(UsageError, match=r"pool\.si.e.*environments\.production"):
        load_settings(environ={"NEMFLOW_ENVIRONMENT": "dev"})


def test_the_three_usual_names_need_no_overlay() -> None:
    """Without a file, or without overlays in it."""
    for name in ("dev", "staging", "production"):
        assert load_settings(environ={"NEMFLOW_ENVIRONMENT": name}).environment == name


# --- secret files ---------------------------------------------------------------------------


def test_any_setting_may_come_from_a_file(tmp_path) -> None:
    """Its line end is not part of it; the origin names file and variable, not the value."""
    secret = tmp_path / "db_url"
    secret.write_text("postgresql://meters:pa ss@db/meters \r\n", encoding="utf-8")
    number = tmp_path / "size"
    number.write_text("9\n", encoding="utf-8")
    env = {"NEMFLOW_DB_FILE": str(secret), "NEMFLOW_POOL_SIZE_FILE": str(number)}
    found = load_settings(environ=env)
    assert (found.db, found.pool.size) == ("postgresql://meters:pa ss@db/meters", 9)
    assert found.origin["db"] == f"{secret} (NEMFLOW_DB_FILE)"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"", "one line"), (b"a\nb\n", "one line"), (b"\xff", "no text")],
)
def test_a_secret_file_that_holds_no_value_is_an_error(tmp_path, content, said) -> None:
    """Never taken as not set: the defaults would be another store."""
    secret = tmp_path / "db_url"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        load_settings(environ={"NEMFLOW_DB_FILE": str(secret)})
    assert "NEMFLOW_DB_FILE" in str(caught.value)


def test_a_value_and_its_file_exclude_each_other(tmp_path) -> None:
    """Nobody has to know which of two secrets wins."""
    secret = tmp_path / "x"
    secret.write_text("a.db", encoding="utf-8")
    with pytest.raises(UsageError, match=r"Both NEMFLOW_DB and NEMFLOW_DB_FILE"):
        load_settings(environ={"NEMFLOW_DB": "b.db", "NEMFLOW_DB_FILE": str(secret)})


def test_a_mistyped_variable_of_a_file_is_an_error() -> None:
    """Its suggestion is the setting."""
    with pytest.raises(UsageError, match="NEMFLOW_QUEUE_URL"):
        load_settings(environ={"NEMFLOW_QUEU_URL_FILE": "x"})


def test_no_setting_looks_like_the_file_of_another() -> None:
    """So that NEMFLOW_X_FILE means one thing."""
    names = {setting.env for setting in settings.catalogue()}
    assert [name for name in names if name + "_FILE" in names] == []


# --- features -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "on"), [("true", True), ("off", False), ("0", False), ("Yes", True)]
)
def test_features_are_switched_by_words(written, on) -> None:
    """In the environment as people write yes and no."""
    found = load_settings(environ={"NEMFLOW_FEATURES_METRICS": written})
    assert found.on("metrics") is on
    assert (found.why_off("metrics") is None) is on


def test_a_feature_that_is_neither_on_nor_off_is_an_error() -> None:
    """``2`` or ``maybe`` is a slip."""
    with pytest.raises(UsageError, match=r"features\.metrics .*true or false"):
        load_settings(environ={"NEMFLOW_FEATURES_METRICS": "2"})


def test_a_feature_that_needs_a_setting_is_off_without_it(monkeypatch) -> None:
    """And says which; with it, it is on."""
    part = features.Feature("metrics", "x", needs="spool.archive")
    monkeypatch.setattr(settings, "FEATURES", (part,))
    assert load_settings(environ={}).why_off("metrics") == "spool.archive is not set"
    assert load_settings(environ={"NEMFLOW_SPOOL_ARCHIVE": "x"}).on("metrics")


def test_every_feature_names_a_setting_that_is_there() -> None:
    """What a part needs can be set."""
    keys = {setting.key for setting in settings.catalogue()}
    for feature in features.FEATURES:
        assert feature.key in keys
        assert feature.needs is None or feature.needs in keys
