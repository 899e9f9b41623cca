"""Where settings are written down: the file with its overlays, the environment, secret files.

Why: what was said, by whom, must be known before anything is made of it; ``nemflow config show``
names the source of each value.

Promises: every source is read whole and checked for unknown keys, also the overlays of
environments that are not in use; nothing here knows what type a value has.

Look next: ``nemflow.settings.load_settings``, which lays the sources over each other.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nemflow.errors import UsageError
from nemflow.settings.words import ENV_PREFIX, catalogue

FILE_NAME: Final = "nemflow.toml"
#: Names that may be chosen when the file has no overlay at all.
ENVIRONMENTS: Final = ("dev", "staging", "production")
OVERLAYS: Final = "environments"
FROM_FILE: Final = "_FILE"
COMMAND_LINE: Final = "command line"

#: Variables with our prefix that are no settings: where the file is, debugging, the tests' own.
_NOT_SETTINGS: Final = (
    "NEMFLOW_API_KEY",
    "NEMFLOW_CONFIG",
    "NEMFLOW_DEBUG",
    "NEMFLOW_FAILPOINTS",
    "NEMFLOW_SAMPLES",
    "NEMFLOW_TEST_",
)
#: A secret is one line; more is another file.
_SECRET_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Said:
    """A value as it was written, and where."""

    value: Any
    where: str  #: ``nemflow.toml [environments.staging]``, ``environment NEMFLOW_DB``


Layer = dict[str, Said]


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What stands in the settings file."""

    path: Path | None = None
    base: Layer = field(default_factory=dict)
    overlays: Mapping[str, Layer] = field(default_factory=dict)

    def overlay(self, name: str | None, where: str) -> Layer:
        """The overlay of an environment; empty without one. Raises UsageError: unknown name."""
        if name is None:
            return {}
        known = tuple(self.overlays) or ENVIRONMENTS
        if name in known:
            return self.overlays.get(name, {})
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]}? " if near else ""
        hint += f"Known are {', '.join(sorted(known))}."
        if self.overlays:
            hint += f" One without settings of its own is an empty [{OVERLAYS}.{name}]."
        raise UsageError(f"Unknown environment {name!r} ({where}).", hint=hint)


def find_file(config: Path | None, env: Mapping[str, str]) -> Path | None:
    """The settings file to read, if any; one that was named must be there."""
    named = config or (Path(env["NEMFLOW_CONFIG"]) if env.get("NEMFLOW_CONFIG") else None)
    path = named or Path(FILE_NAME)
    if path.is_file():
        return path
    if named is not None:
        raise UsageError(f"There is no settings file {named}.", hint="Check --config.")
    return None


def read_file(path: Path | None) -> SettingsFile:
    """The file's keys, tables flattened to dotted keys. Raises UsageError."""
    if path is None:
        return SettingsFile()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}.", hint="Check who may read it."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not a TOML file: {error}.", hint="See docs/settings.md."
        ) from error
    tables = content.pop(OVERLAYS, {})
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise UsageError(
            f"{OVERLAYS} in {path} must be tables.", hint=f"Write [{OVERLAYS}.staging]."
        )
    overlays = {}
    for name, table in tables.items():
        where = f"{path} [{OVERLAYS}.{name}]"
        if "environment" in table:
            raise UsageError(f"An overlay names no environment ({where}).", hint="Take it out.")
        overlays[name] = _flat(table, where)
    return SettingsFile(path, _flat(content, str(path)), overlays)


def from_environment(env: Mapping[str, str]) -> Layer:
    """Variables that begin with ``NEMFLOW_``, by their keys; ``…_FILE`` names a file instead.

    Raises:
        UsageError: a variable is unknown, a value is given twice, or a file cannot be read.
    """
    ours = [k for k in env if k.startswith(ENV_PREFIX) and not k.startswith(_NOT_SETTINGS)]
    if not ours:
        return {}
    keys = {setting.env: setting.key for setting in catalogue()}
    files = {name + FROM_FILE: name for name in keys if name + FROM_FILE not in keys}
    refuse_unknown(ours, [*keys, *files], "in the environment", near=keys)
    found: Layer = {}
    for name in ours:
        if name in keys:
            found[keys[name]] = Said(env[name], f"environment {name}")
            continue
        if files[name] in env:
            raise UsageError(
                f"Both {files[name]} and {name} are set.", hint="Unset one of the two."
            )
        said = Said(_secret(name, env[name]), f"{env[name]} ({name})")
        found[keys[files[name]]] = said
    return found


def _secret(name: str, path: str) -> str:
    """The content of a file that a variable names, without the line end."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(_SECRET_BYTES + 1)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise UsageError(
            f"{name} names {path!r}, which cannot be read: {error.strerror or error}.",
            hint="Check that the file is there and that this user may read it.",
        ) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{name} names {path!r}, which is no text.") from error
    if len(content) > _SECRET_BYTES or "\n" in text or not text.strip():
        raise UsageError(
            f"{name} names {path!r}, which must hold one line: the value.",
            hint="An empty file is never taken as no value.",
        )
    return text


def _flat(table: Mapping[str, Any], where: str) -> Layer:
    """One table of settings, with inner tables as dotted keys; unknown keys are refused."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and key != "value_limits":
            flat |= {f"{key}.{inner}": v for inner, v in value.items()}
        else:
            flat[key] = value
    refuse_unknown(flat, [setting.key for setting in catalogue()], f"in {where}")
    return {key: Said(value, where) for key, value in flat.items()}


def refuse_unknown(
    given: Iterable[str], known: Iterable[str], where: str, *, near: Iterable[str] | None = None
) -> None:
    """Raise UsageError for the first key that is not known, naming the nearest one of ``near``."""
    known = set(known)
    for key in given:
        if key in known:
            continue
        names = sorted(known if near is None else near)
        close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(names)}."
        raise UsageError(f"Unknown setting {key} {where}.", hint=hint)
