"""What can be set, and where from: ``nemflow.toml``, then the environment, then the command line.

Why: the rooms take values, not configuration; the entry points read it once, here, and hand each
room its own.

Promises: later sources win key by key (file, the file's overlay of the chosen environment,
variables and the secret files they name, command line); an unknown key is an error that names the
nearest known one; every key is in ``catalogue()`` with its meaning, from which ``docs/settings.md``
is written; relative paths in the file mean what they mean on the command line (the current
folder).

Look next: ``words.py`` for every key, ``sources.py`` for where they are read, ``features.py`` for
what can be switched off; ``nemflow config show`` prints what is in use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nemflow.errors import UsageError
from nemflow.settings import sources
from nemflow.settings.features import FEATURES
from nemflow.settings.sources import COMMAND_LINE, FILE_NAME, Said
from nemflow.settings.words import REVIEW_AFTER_DAYS, Setting, catalogue

if TYPE_CHECKING:
    from nemflow.intake.accepting import AcceptLimits
    from nemflow.intake.archive import Limits
    from nemflow.intake.folder import FolderPace
    from nemflow.intake.spool import SpoolLimits
    from nemflow.jobs.pace import Calling, Rhythm, Working
    from nemflow.mdff.asexml import XmlLimits
    from nemflow.pipeline.sizing import Sizes
    from nemflow.store.backends.pool import Pool

__all__ = ["FILE_NAME", "PROFILES", "Setting", "Settings", "catalogue", "load_settings"]

PROFILES: Final = ("portal", "b2b")
LANES: Final = ("urgent", "normal", "bulk")
_AUTO: Final = "auto"  #: as the machine allows: of ``load.*``
_UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}
#: Tables of the file: each is a value object of a room, one whole number per field.
_TABLE_PREFIXES: Final = (
    "limits.",
    "xml.",
    "pool.",
    "load.",
    "service.",
    "spool.",
    "queue.",
    "worker.",
    "webhooks.",
    "folder.",
    "sweep.",
    "features.",
    "metrics.",
    "log.",
    "tracing.",
)
#: Settings that are true or false: all of these tables, and single ones.
_BOOLS: Final = ("features.", "folder.polling", "sweep.recursive", "sweep.move")
_YES: Final = ("true", "yes", "on", "1")
_NO: Final = ("false", "no", "off", "0")
#: Settings of these tables that are texts: the words they may be; None: any.
_TEXTS: Final[dict[str, tuple[str, ...] | None]] = {
    "service.host": None,
    "service.rate_per_key": None,
    "spool.folder": None,
    "spool.keep_after": ("delete", "archive", "keep"),
    "spool.archive": None,
    "spool.outbox": None,
    "queue.url": None,
    **dict.fromkeys(f"folder.{each}" for each in ("path", "taken", "done", "rejected", "sender")),
    "folder.profile": PROFILES,
    "folder.lane": LANES,
    **dict.fromkeys(f"sweep.{each}" for each in ("path", "cron", "sender")),
    "sweep.profile": PROFILES,
    "sweep.lane": LANES,
    "queue.prefix": None,
    "webhooks.key": None,
    "webhooks.hosts": None,
    "metrics.host": None,
    "log.format": ("auto", "text", "json"),
    "log.level": ("debug", "info", "warning", "error"),
    "tracing.endpoint": None,
}
#: Keys of tables that are no fields of a room's value object.
_NO_FIELDS: Final = frozenset({*_TEXTS, *_BOOLS, "service.port"})
_VALUE_LIMIT: Final = re.compile(r"(?P<suffix>\*|[A-Za-z][0-9A-Za-z]) +(?P<uom>[A-Za-z]{1,5})")


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for this run."""

    db: str  #: store URL, or the path of an SQLite file
    profile: str | None  #: rule profile, portal or b2b; None: b2b for aseXML, else portal
    participant: str | None  #: our own participant id, for rule F008; None: not checked
    limits: Limits  #: of archives
    value_limits: Mapping[
        tuple[str, str], Decimal
    ]  #: (suffix or its letter, unit) -> most per interval
    review_after: int = REVIEW_AFTER_DAYS  #: days; see review_after_days
    file: Path | None = None  #: the nemflow.toml that was read
    #: key -> where its value came from: the file, its overlay, a variable, a secret file
    origin: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None  #: dev, staging, production or what the file calls it
    #: What was set of the tables ``xml``, ``pool`` and ``load``, by key; their rooms are heavy to
    #: import, so their values are made when they are asked for.
    tables: Mapping[str, Any] = field(default_factory=dict)

    def on(self, part: str) -> bool:
        """Whether a way in or an optional part runs; a name of ``features.FEATURES``."""
        return self.why_off(part) is None

    def why_off(self, part: str) -> str | None:
        """Why it does not run, in words; None: it does."""
        feature = next(each for each in FEATURES if each.name == part)
        if not self.tables.get(feature.key, feature.usual):
            said = self.origin.get(feature.key)
            return f"{feature.key} is false" + (f", {said}" if said else " unless it is set")
        if feature.needs is not None and feature.needs not in self.tables:
            return f"{feature.needs} is not set"
        return None

    @property
    def xml_limits(self) -> XmlLimits:
        """How much of an aseXML message is read."""
        from nemflow.mdff.asexml import XmlLimits

        return XmlLimits(**_of_table("xml", self.tables))

    @property
    def pool(self) -> Pool:
        """Connections to a server, and how long anything may take."""
        from nemflow.store.backends.pool import Pool

        return Pool(**_of_table("pool", self.tables))

    @property
    def sizes(self) -> Sizes:
        """How a load is divided."""
        from nemflow.pipeline.sizing import Sizes

        return Sizes(**_of_table("load", self.tables))

    @property
    def accept_limits(self) -> AcceptLimits:
        """How much one sender may cost the service."""
        from nemflow.intake.accepting import AcceptLimits

        return AcceptLimits(**_of_table("service", self.tables))

    @property
    def spool_limits(self) -> SpoolLimits:
        """How much the spool takes."""
        from nemflow.intake.spool import SpoolLimits

        return SpoolLimits(**_of_table("spool", self.tables))

    @property
    def working(self) -> Working:
        """How deliveries are worked on."""
        from nemflow.jobs.pace import Working

        return Working(**_of_table("worker", self.tables))

    @property
    def rhythm(self) -> Rhythm:
        """How often the ledger is looked through."""
        from nemflow.jobs.pace import Rhythm

        return Rhythm(**_of_table("queue", self.tables))

    @property
    def calling(self) -> Calling:
        """How webhooks are told."""
        from nemflow.jobs.pace import Calling

        return Calling(**_of_table("webhooks", self.tables))

    @property
    def folder_pace(self) -> FolderPace:
        """How the drop folder is watched."""
        from nemflow.intake.folder import FolderPace

        return FolderPace(**_of_table("folder", self.tables))

    def yes(self, key: str, default: bool) -> bool:
        """Something of a table that is true or false, e.g. ``folder.polling``."""
        return bool(self.tables.get(key, default))

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text of a table, e.g. ``service.host``."""
        value = self.tables.get(key, default)
        return None if value is None else str(value)

    def number(self, key: str, default: int) -> int:
        """A number of a table that is no field of a value object, e.g. ``service.port``."""
        return int(self.tables.get(key, default))


def load_settings(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Settings:
    """Read file, environment and command line, in this order; later wins key by key.

    Args:
        config: the settings file; None: ``NEMFLOW_CONFIG``, else ``nemflow.toml`` in the current
            folder if there is one.
        environ: the environment; None: the process's.
        given: key -> value from the command line; a None value means not given.

    Raises:
        UsageError: a key, a variable or the environment's name is unknown, a value is of the
            wrong kind, or a file is missing, no TOML or cannot be read.
    """
    env = os.environ if environ is None else environ
    file = sources.read_file(sources.find_file(config, env))
    variables = sources.from_environment(env)
    said = {k: Said(v, COMMAND_LINE) for k, v in (given or {}).items() if v is not None}
    for overlay in file.overlays.values():  # a slip in one that is not in use is told as well
        for key, each in overlay.items():
            _typed(key, each.value, each.where)
    named = next(
        (x["environment"] for x in (said, variables, file.base) if "environment" in x), None
    )
    chosen = _typed("environment", named.value, named.where) if named else None
    overlay = file.overlay(chosen, named.where if named else "")
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for layer in (file.base, overlay, variables, said):
        for key, each in layer.items():
            values[key], origin[key] = _typed(key, each.value, each.where), each.where
    return Settings(
        db=values.get("db", "sqlite:///nemflow.db"),
        profile=values.get("profile"),
        participant=values.get("participant"),
        limits=_limits(values),
        tables={
            key: value
            for key, value in values.items()
            if key.startswith(_TABLE_PREFIXES) and not key.startswith("limits.")
        },
        value_limits=values.get("value_limits", {}),
        review_after=values.get("review_after_days", REVIEW_AFTER_DAYS),
        file=file.path,
        origin=origin,
        environment=chosen,
    )


def _typed(key: str, value: Any, where: str) -> Any:
    """The value as its key needs it. Raises UsageError when it cannot be that."""
    if key == "value_limits":
        return _value_limits(value, where)
    if key.startswith("load.") and value == _AUTO:
        return _AUTO
    if key.startswith(_BOOLS):
        return _yes_or_no(key, value, where)
    if key not in _TEXTS and (key.startswith(_TABLE_PREFIXES) or key == "review_after_days"):
        return _whole_number(key, value, where)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{key} ({where}) must be a text, not {value!r}.")
    if key == "profile" and value not in PROFILES:
        raise UsageError(
            f"There is no rule profile {value!r} ({where}).", hint="Profiles: portal, b2b."
        )
    words = _TEXTS.get(key)
    if words is not None and value.strip() not in words:
        raise UsageError(f"{key} ({where}): {value!r} is none of {', '.join(words)}.")
    return value.strip()


def _yes_or_no(key: str, value: Any, where: str) -> bool:
    """True or false; in the environment also yes, no, on, off, 1, 0."""
    text = str(value).strip().lower() if isinstance(value, bool | str) else ""
    if text not in {*_YES, *_NO}:
        raise UsageError(f"{key} ({where}) must be true or false, not {value!r}.")
    return text in _YES


def _whole_number(key: str, value: Any, where: str) -> int:
    """A count, or a size such as ``512 MiB``."""
    text = str(value).strip().replace("_", "")
    text = text.removesuffix(".0")
    found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text) if not isinstance(value, bool) else None
    if found is None or found[2].upper() not in _UNITS or int(found[1]) == 0:
        raise UsageError(
            f"{key} ({where}) must be a whole number above 0, not {value!r}.",
            hint='Sizes may be written as "512 MiB".',
        )
    return int(found[1]) * _UNITS[found[2].upper()]


def _value_limits(value: Any, where: str) -> dict[tuple[str, str], Decimal]:
    """``{"E1 kWh" = 50}``, or ``E1 kWh=50, * V=300`` in the environment."""
    from nemflow.mdff.codes import canonical_unit

    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {name.strip(): amount.strip() for name, _, amount in parts}
    hint = 'Write value_limits = { "E1 kWh" = 50, "* V" = 300 }.'
    if not isinstance(value, dict):
        raise UsageError(f"value_limits ({where}) must be a table.", hint=hint)
    limits: dict[tuple[str, str], Decimal] = {}
    for name, amount in value.items():
        found = _VALUE_LIMIT.fullmatch(name)
        try:
            most = Decimal(str(amount))
        except InvalidOperation:
            most = Decimal("NaN")
        unit = canonical_unit(found["uom"]) if found else None
        if found is None or unit is None or not most.is_finite() or most <= 0:
            raise UsageError(f"value_limits ({where}): {name!r} = {amount!r} is wrong.", hint=hint)
        limits[found["suffix"].upper(), unit.name] = most
    return limits


def _limits(values: Mapping[str, Any]) -> Limits:
    """The archive limits, with what was set put over the defaults."""
    from nemflow.intake.archive import Limits

    return Limits(**_of_table("limits", values))


def _of_table(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What was set of one table, by field; texts apart. ``auto`` is as if it were not set."""
    prefix = f"{table}."
    return {
        key.removeprefix(prefix): value
        for key, value in values.items()
        if key.startswith(prefix) and value != _AUTO and key not in _NO_FIELDS
    }
