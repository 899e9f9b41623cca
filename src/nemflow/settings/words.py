"""Every setting with its meaning, default and an example.

Why: the file, the environment, the docs and the check for unknown keys must know the same keys.

Promises: the limits come from the value objects of the rooms they belong to, field by field, so
none can be forgotten; ``docs/settings.md`` is checked against it.

Look next: ``nemflow.settings`` for how they are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nemflow.settings.features import FEATURES

ENV_PREFIX: Final = "NEMFLOW_"
#: The store's own default, which is heavy to import; a test keeps them equal.
REVIEW_AFTER_DAYS: Final = 140

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
_SERVICE_WORDS: Final = {
    "files": "How many files one upload may have.",
    "uploads": "How many uploads may come in at the same time.",
    "floor_bytes_per_second": "How fast an upload must be; slower ones are given up.",
    "floor_seconds": "Over how long that is measured.",
    "upload_seconds": "How long one upload may take, all in all.",
    "wait_seconds": "The longest that an upload with ?wait= is waited for.",
    "page": "The most rows of a list's page.",
    "waiting_files": "With so many files waiting for loading, uploads are refused for a while.",
    "waiting_bytes": "With so many bytes waiting for loading, uploads are refused for a while.",
}
_SPOOL_WORDS: Final = {
    "file_bytes": "How large one upload may be, as sent.",
    "total_bytes": "How large all originals that wait in the spool may be together.",
    "free_bytes": "How much of the spool's disk is left free.",
}
_WORKER_WORDS: Final = {
    "threads": "How many deliveries a worker process loads at the same time.",
    "attempts": "After how many attempts a delivery is dead.",
    "lease_seconds": "How long a worker may be silent before its delivery is given to another.",
    "beat_seconds": "How often a worker renews its lease and tells its progress.",
    "stuck_seconds": "After how long without progress a worker's lease is renewed no more.",
    "retry_seconds": "The pause before the second attempt; doubled for each further one.",
    "retry_most_seconds": "The longest pause between two attempts.",
    "grace_seconds": "How long a worker that is told to stop may finish what it has in hand.",
}
_QUEUE_WORDS: Final = {
    "every_seconds": "How often the ledger is looked through for what is due.",
    "per_sender": "How many messages of one sender and lane are in the broker at a time.",
    "tidy_seconds": "How often what killed workers left is cleared.",
    "longest_seconds": "After how long in one state a delivery is taken from its worker.",
    "details_days": "How long the timeline of a delivery that was loaded is kept.",
    "keys_days": "How long an Idempotency-Key is remembered.",
}
_WEBHOOK_WORDS: Final = {
    "attempts": "After how many attempts a message to a webhook is dead.",
    "timeout_seconds": "How long one attempt may take, all in all.",
    "retry_seconds": "The pause before the second attempt; three times as long for each further "
    "one.",
    "retry_most_seconds": "The longest pause between two attempts.",
    "keep_days": "How long messages that were delivered are listed.",
}
_FOLDER_WORDS: Final = {
    "settle_seconds": "How long a file in the drop folder must stand still before it is taken.",
    "rescan_seconds": "How often the whole folder is looked through, whatever the system tells.",
    "files": "How many files are watched, and taken, in one round.",
}
_LOAD_DEFAULTS: Final = {
    "jobs": ("auto: 1 on SQLite, else by cores, files and memory", "2"),
    "batch_bytes": ("auto: 8 MiB, less when memory is short", '"8 MiB"'),
    "chunk_bytes": ("auto: 8 MiB, less when memory is short", '"8 MiB"'),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set."""

    key: str  #: as in the file, dotted for a table: ``limits.depth``
    what: str  #: what it does, one sentence
    default: str  #: in words or as written
    example: str  #: a line of the file
    usual: Any = None  #: the default as a value; None: none, or not one value
    secret: bool = False  #: never shown whole

    @property
    def env(self) -> str:
        """The environment variable: ``NEMFLOW_LIMITS_DEPTH``."""
        return ENV_PREFIX + self.key.replace(".", "_").upper()


def catalogue() -> tuple[Setting, ...]:
    """Every setting there is, in the order of the docs."""
    from nemflow.intake.accepting import AcceptLimits
    from nemflow.intake.archive import Limits
    from nemflow.intake.folder import FolderPace
    from nemflow.intake.spool import SpoolLimits
    from nemflow.jobs.pace import Calling, Rhythm, Working
    from nemflow.mdff.asexml import XmlLimits
    from nemflow.store.backends.pool import Pool

    own = (
        Setting(
            "environment",
            "The name of the environment; the file's table environments.<name> is laid over it.",
            "not set: no overlay",
            'environment = "staging"',
        ),
        Setting(
            "db",
            "The store: an SQLite file or an SQLAlchemy URL.",
            "sqlite:///nemflow.db",
            'db = "sqlite:///data/meters.db"',
            "sqlite:///nemflow.db",
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
            REVIEW_AFTER_DAYS,
        ),
    )
    return (
        *own,
        *(
            Setting(
                each.key,
                f"Whether it runs: {each.what}.",
                f"{each.usual}".lower() + (f", when {each.needs} is set" if each.needs else ""),
                f"{each.key} = {f'{not each.usual}'.lower()}",
                each.usual,
            )
            for each in FEATURES
        ),
        *(_field_setting("limits", each, _LIMIT_WORDS) for each in dataclasses.fields(Limits)),
        *(_field_setting("xml", each, _XML_WORDS) for each in dataclasses.fields(XmlLimits)),
        *(_field_setting("pool", each, _POOL_WORDS) for each in dataclasses.fields(Pool)),
        *(
            Setting(f"load.{name}", _LOAD_WORDS[name], default, f"load.{name} = {shown}")
            for name, (default, shown) in _LOAD_DEFAULTS.items()
        ),
        Setting(
            "service.host",
            "The address the service listens on; other than loopback only with API keys.",
            "127.0.0.1",
            'service.host = "0.0.0.0"',
            "127.0.0.1",
        ),
        Setting(
            "service.port",
            "The port the service listens on.",
            "8600",
            "service.port = 8600",
            8600,
        ),
        Setting(
            "service.rate_per_key",
            "How often one API key may ask: 600/minute, 20/second; off: as often as it likes.",
            "6000/minute",
            'service.rate_per_key = "600/minute"',
            "6000/minute",
        ),
        *(
            _field_setting("service", each, _SERVICE_WORDS)
            for each in dataclasses.fields(AcceptLimits)
        ),
        Setting(
            "spool.folder",
            "Where uploads are kept until they are loaded.",
            "nemflow-spool",
            'spool.folder = "data/spool"',
            "nemflow-spool",
        ),
        *(_field_setting("spool", each, _SPOOL_WORDS) for each in dataclasses.fields(SpoolLimits)),
        Setting(
            "spool.keep_after",
            "What becomes of an original that was loaded whole: delete, archive or keep.",
            "delete",
            'spool.keep_after = "archive"',
            "delete",
        ),
        Setting(
            "spool.archive",
            "The folder that originals are moved to with keep_after = archive.",
            "not set",
            'spool.archive = "data/archive"',
        ),
        Setting(
            "spool.outbox",
            "The folder for acknowledgements of aseXML messages.",
            "not set: none are made",
            'spool.outbox = "data/outbox"',
        ),
        Setting(
            "queue.url",
            "The broker: memory://, redis://host:6379/0 or amqp://user:password@host:5672/.",
            "memory://",
            'queue.url = "redis://127.0.0.1:6379/0"',
            "memory://",
        ),
        Setting(
            "queue.prefix",
            "What the names of keys and queues in the broker begin with.",
            "nemflow",
            'queue.prefix = "nemflow_staging"',
            "nemflow",
        ),
        *_ways_in(),
        *(_field_setting("folder", each, _FOLDER_WORDS) for each in dataclasses.fields(FolderPace)),
        *(_field_setting("queue", each, _QUEUE_WORDS) for each in dataclasses.fields(Rhythm)),
        Setting(
            "metrics.host",
            "The address on which a worker process tells its numbers to Prometheus.",
            "127.0.0.1",
            'metrics.host = "0.0.0.0"',
        ),
        Setting(
            "metrics.port",
            "Its port; when another process has it, one of the next 64.",
            "8700",
            "metrics.port = 8700",
        ),
        Setting(
            "log.format",
            "How lines of the log are written: text, json, or auto: text on a terminal, else JSON.",
            "auto",
            'log.format = "json"',
        ),
        Setting(
            "log.level",
            "The least that is written: debug, info, warning, error.",
            "info",
            'log.level = "debug"',
        ),
        Setting(
            "tracing.endpoint",
            "Where spans are sent, OTLP over HTTP; needs the extra tracing.",
            "not set: none are made",
            'tracing.endpoint = "http://127.0.0.1:4318/v1/traces"',
        ),
        *(_field_setting("worker", each, _WORKER_WORDS) for each in dataclasses.fields(Working)),
        Setting(
            "webhooks.key",
            "What the secrets of webhooks are derived from, so that the store does not hold them.",
            "not set: the store holds them",
            'webhooks.key = "..."',
            secret=True,
        ),
        Setting(
            "webhooks.hosts",
            "The only hosts webhooks may name, joined by commas; .example.org: all below it.",
            "not set: any",
            'webhooks.hosts = "hooks.example.org, .example.com"',
        ),
        *(_field_setting("webhooks", each, _WEBHOOK_WORDS) for each in dataclasses.fields(Calling)),
    )


def _ways_in() -> Iterator[Setting]:
    """The drop folder and the sweep: what both have, and what is of one alone."""
    for table, what, path in (("folder", "drop folder", "drop"), ("sweep", "swept folder", "old")):
        yield Setting(
            f"{table}.path",
            f"The {what}.",
            "not set: there is none",
            f'{table}.path = "data/{path}"',
        )
        yield Setting(
            f"{table}.profile",
            f"The rule profile of what comes through the {what}.",
            "by what it is",
            f'{table}.profile = "b2b"',
        )
        yield Setting(
            f"{table}.lane",
            f"The lane of what comes through the {what}: urgent, normal or bulk.",
            usual := "normal" if table == "folder" else "bulk",
            f'{table}.lane = "urgent"',
            usual,
        )
        yield Setting(
            f"{table}.sender",
            f"Who sent what lies at the top of the {what}; folders in it name their senders.",
            "as the file says",
            f'{table}.sender = "MDPEXMPL"',
        )
    for place, what in (
        ("taken", "are while they are loaded"),
        ("done", "go when they are loaded"),
        ("rejected", "go when they are refused, with a report beside them"),
    ):
        yield Setting(
            f"folder.{place}",
            f"Where files of the drop folder {what}.",
            f"the folder {place} in it",
            f'folder.{place} = "data/{place}"',
        )
    yield Setting(
        "folder.polling",
        "Whether the system is not asked to tell of new files; for network shares.",
        "false",
        "folder.polling = true",
        usual=False,
    )
    yield Setting(
        "sweep.cron",
        "When it is swept, in market time: minute, hour, day, month, weekday.",
        "0 * * * *",
        'sweep.cron = "30 4 * * *"',
        "0 * * * *",
    )
    yield Setting(
        "sweep.recursive",
        "Whether the folders in it are swept as well.",
        "true",
        "sweep.recursive = false",
        usual=True,
    )
    yield Setting(
        "sweep.move",
        "Whether its files go to taken, done and rejected in it; else they stay where they are.",
        "false",
        "sweep.move = true",
        usual=False,
    )


def _field_setting(table: str, each: dataclasses.Field[Any], words: Mapping[str, str]) -> Setting:
    """One field of a room's value object as a setting."""
    key = f"{table}.{each.name}"
    number: Any = each.default
    default = size(number) if each.name.endswith("bytes") else f"{number:,}"
    shown = f'"{default}"' if each.name.endswith("bytes") else str(number)
    return Setting(key, words[each.name], default, f"{key} = {shown}", number)


def size(number: int) -> str:
    """A number of bytes as ``64 MiB``."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number % factor == 0:
            return f"{number // factor} {unit}"
    return str(number)
