"""What can be set, and where from: ``nemflow.toml``, then the environment, then the command line.

Why: the rooms take values, not configuration; the entry points read it once, here, and hand each
room its own.

Promises: later sources win key by key; an unknown key is an error that names the nearest known
one; every key is in ``catalogue()`` with its meaning, from which ``docs/settings.md`` is checked;
relative database paths in the file mean what they mean on the command line (the current folder).

Look next: ``nemflow.intake.archive.Limits`` for the archive limits; ``nemflow doctor`` prints what
is in use.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nemflow.errors import UsageError

if TYPE_CHECKING:
    from nemflow.intake.archive import Limits
    from nemflow.mdff.asexml import XmlLimits
    from nemflow.pipeline.sizing import Sizes
    from nemflow.store.backends.pool import Pool

FILE_NAME: Final = "nemflow.toml"
ENV_PREFIX: Final = "NEMFLOW_"
PROFILES: Final = ("portal", "b2b")
#: The store's own default, which is heavy to import; a test keeps them equal.
REVIEW_AFTER_DAYS: Final = 140

#: Variables with our prefix that are no settings: where the file is, debugging, the tests' own.
_NOT_SETTINGS: Final = (
    "NEMFLOW_CONFIG",
    "NEMFLOW_DEBUG",
    "NEMFLOW_FAILPOINTS",
    "NEMFLOW_SAMPLES",
    "NEMFLOW_TEST_",
)

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
_LIMIT_WORDS: Final = {
    "depth": "How many containers may lie inside each other; a gzip counts as one.",
    "members": "How many entries all archives of one delivery may have together.",
    "member_bytes": "How large one unpacked member may be.",
    "total_bytes": "How large everything unpacked from one delivery may be.",
    "ratio": "How many times larger than packed a member may be, past ratio_after_bytes.",
    "ratio_after_bytes": "From which unpacked size on the ratio counts.",
    "directory_bytes": "How large the directory of one zip may be; it is read into memory.",
    "memory_bytes": "Up to which size content stays in memory; larger goes to a temporary file.",
}
_XML_WORDS: Final = {
    "depth": "How many elements of an aseXML message may lie inside each other.",
    "attributes": "How many attributes one element may have.",
    "elements": "How many elements a message may have.",
    "text_bytes": "How large all text of a message may be.",
    "transactions": "How many transactions, payloads and acknowledgements a message may have.",
}
_POOL_WORDS: Final = {
    "size": "How many connections to PostgreSQL a process keeps.",
    "overflow": "How many more it may open for a while.",
    "wait_seconds": "Longest wait for a free connection.",
    "connect_seconds": "Longest time to connect.",
    "statement_seconds": "Longest statement; the server ends it after that.",
    "lock_seconds": "Longest wait for a lock.",
    "idle_in_transaction_seconds": "When the server ends a transaction that does nothing, "
    "so that a lost client's locks are freed.",
    "tcp_user_timeout_ms": "After how many milliseconds without an answer a link counts as cut.",
    "attempts": "How often a transaction is tried when the server is away or in the way.",
    "retry_seconds": "For how long it is tried.",
}
_LOAD_WORDS: Final = {
    "jobs": "How many processes load at the same time.",
    "batch_bytes": "Up to which size small texts are loaded together, in one transaction.",
    "chunk_bytes": "In pieces of which size large texts are read.",
}
_LOAD_DEFAULTS: Final = {
    "jobs": ("auto: 1 on SQLite, else by cores, files and memory", "2"),
    "batch_bytes": ("auto: 8 MiB, less when memory is short", '"8 MiB"'),
    "chunk_bytes": ("auto: 8 MiB, less when memory is short", '"8 MiB"'),
}
#: Tables of the file: each is a value object of a room, one whole number per field.
_TABLE_PREFIXES: Final = ("limits.", "xml.", "pool.", "load.")
_VALUE_LIMIT: Final = re.compile(r"(?P<suffix>\*|[A-Za-z][0-9A-Za-z]) +(?P<uom>[A-Za-z]{1,5})")


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set."""

    key: str  #: as in the file, dotted for a table: ``limits.depth``
    what: str  #: what it does, one sentence
    default: str  #: in words or as written
    example: str  #: a line of the file

    @property
    def env(self) -> str:
        """The environment variable: ``NEMFLOW_LIMITS_DEPTH``."""
        return ENV_PREFIX + self.key.replace(".", "_").upper()


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
    origin: Mapping[str, str] = field(default_factory=dict)  #: key -> where its value came from
    #: What was set of the tables ``xml``, ``pool`` and ``load``, by key; their rooms are heavy to
    #: import, so their values are made when they are asked for.
    tables: Mapping[str, Any] = field(default_factory=dict)

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


def catalogue() -> tuple[Setting, ...]:
    """Every setting there is, in the order of the docs."""
    from nemflow.intake.archive import Limits
    from nemflow.mdff.asexml import XmlLimits
    from nemflow.store.backends.pool import Pool

    own = (
        Setting(
            "db",
            "The store: an SQLite file or an SQLAlchemy URL.",
            "sqlite:///nemflow.db",
            'db = "sqlite:///data/meters.db"',
        ),
        Setting(
            "profile",
            "The rule profile: portal (tolerant) or b2b (strict).",
            "b2b for aseXML messages, else portal",
            'profile = "b2b"',
        ),
        Setting(
            "participant",
            "Our own participant id; under b2b a file addressed to someone else is refused (F008).",
            "not set: not checked",
            'participant = "RETAILR1"',
        ),
        Setting(
            "value_limits",
            "The most one interval may hold, per suffix (* is any) and unit; "
            "more is reported as I007.",
            "not set: not checked",
            'value_limits = { "E1 kWh" = 50, "* V" = 300 }',
        ),
        Setting(
            "review_after_days",
            "A substitute that replaces an actual is left for review when its day was over for "
            "more than so many days.",
            f"{REVIEW_AFTER_DAYS}",
            "review_after_days = 90",
        ),
    )
    return (
        *own,
        *(_field_setting("limits", each, _LIMIT_WORDS) for each in dataclasses.fields(Limits)),
        *(_field_setting("xml", each, _XML_WORDS) for each in dataclasses.fields(XmlLimits)),
        *(_field_setting("pool", each, _POOL_WORDS) for each in dataclasses.fields(Pool)),
        *(
            Setting(f"load.{name}", _LOAD_WORDS[name], default, f"load.{name} = {shown}")
            for name, (default, shown) in _LOAD_DEFAULTS.items()
        ),
    )


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
        UsageError: a key is unknown, a value is of the wrong kind, or the file is missing or
            no TOML.
    """
    env = os.environ if environ is None else environ
    path = _find_file(config, env)
    layers = (
        (str(path) if path else FILE_NAME, _from_file(path)),
        ("environment", _from_environment(env)),
        ("command line", {k: v for k, v in (given or {}).items() if v is not None}),
    )
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, layer in layers:
        for key, value in layer.items():
            values[key], origin[key] = _typed(key, value, name), name
    return Settings(
        db=values.get("db", "sqlite:///nemflow.db"),
        profile=values.get("profile"),
        participant=values.get("participant"),
        limits=_limits(values),
        tables={
            key: value
            for key, value in values.items()
            if key.startswith(("xml.", "pool.", "load."))
        },
        value_limits=values.get("value_limits", {}),
        review_after=values.get("review_after_days", REVIEW_AFTER_DAYS),
        file=path,
        origin=origin,
    )


def _field_setting(table: str, each: dataclasses.Field[Any], words: Mapping[str, str]) -> Setting:
    """One field of a room's value object as a setting."""
    key = f"{table}.{each.name}"
    number: Any = each.default
    default = _size(number) if each.name.endswith("bytes") else f"{number:,}"
    shown = f'"{default}"' if each.name.endswith("bytes") else str(number)
    return Setting(key, words[each.name], default, f"{key} = {shown}")


def _size(number: int) -> str:
    """A number of bytes as ``64 MiB``."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number % factor == 0:
            return f"{number // factor} {unit}"
    return str(number)


def _find_file(config: Path | None, env: Mapping[str, str]) -> Path | None:
    """The settings file to read, if any; one that was named must be there."""
    named = config or (Path(env["NEMFLOW_CONFIG"]) if env.get("NEMFLOW_CONFIG") else None)
    path = named or Path(FILE_NAME)
    if path.is_file():
        return path
    if named is not None:
        raise UsageError(f"There is no settings file {named}.", hint="Check --config.")
    return None


def _from_file(path: Path | None) -> dict[str, Any]:
    """The file's keys, tables flattened to dotted keys."""
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not a TOML file: {error}.", hint="See docs/settings.md."
        ) from error
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and key != "value_limits":
            flat |= {f"{key}.{inner}": v for inner, v in value.items()}
        else:
            flat[key] = value
    _refuse_unknown(flat, {s.key for s in catalogue()}, f"in {path}")
    return flat


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Variables that begin with ``NEMFLOW_``, by their keys."""
    ours = [k for k in env if k.startswith(ENV_PREFIX) and not k.startswith(_NOT_SETTINGS)]
    if not ours:
        return {}
    keys = {setting.env: setting.key for setting in catalogue()}
    _refuse_unknown(ours, set(keys), "in the environment")
    return {keys[name]: env[name] for name in ours}


def _refuse_unknown(given: Iterable[str], known: set[str], where: str) -> None:
    """Raise for the first key that is not known, naming the nearest one."""
    for key in given:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(sorted(known))}."
        raise UsageError(f"Unknown setting {key} {where}.", hint=hint)


def _typed(key: str, value: Any, where: str) -> Any:
    """The value as its key needs it. Raises UsageError when it cannot be that."""
    if key == "value_limits":
        return _value_limits(value, where)
    if key.startswith("load.") and value == _AUTO:
        return _AUTO
    if key.startswith(_TABLE_PREFIXES) or key == "review_after_days":
        return _whole_number(key, value, where)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{key} ({where}) must be a text, not {value!r}.")
    if key == "profile" and value not in PROFILES:
        raise UsageError(
            f"There is no rule profile {value!r} ({where}).", hint="Profiles: portal, b2b."
        )
    return value.strip()


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
    """What was set of one table, by field. ``auto`` is as if it were not set."""
    prefix = f"{table}."
    return {
        key.removeprefix(prefix): value
        for key, value in values.items()
        if key.startswith(prefix) and value != _AUTO
    }
