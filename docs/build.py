"""Writes the reference pages of docs/ from the code, so that they cannot drift.

Why: rules, codes, records and commands are described once, in the code that uses them.
Promises: the same code gives the same bytes; ``--check`` writes nothing and ends with 1 when a
page is stale. To add a page, write a function that returns its text and add it to ``PAGES``.
Where next: ``make docs`` writes, ``make check`` checks; tests/unit/test_docs.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from nemflow import settings
from nemflow.mdff import codes, layout, rules
from nemflow.settings.features import FEATURES

DOCS = Path(__file__).resolve().parent
_NOTICE = "<!-- Written by docs/build.py from the code. Do not edit; run `make docs`. -->"
#: As nemflow.telemetry.spans has them, which needs the extra tracing.
_SPANS = {
    "METHOD route": "a request; its parent is the caller's span, when it sends a traceparent",
    "receive": "a delivery becomes safe: spool and ledger",
    "wait": "from received to its first claim",
    "attempt": "a worker's attempt; a further one links to the one before",
    "inspect": "what is in it",
    "load": "parse, append, commit: its end is the commit of the last rows",
    "settle": "acknowledge, archive or delete the original",
}
_MARK = {True: "", False: "not verified"}


def page(title: str, *parts: str) -> str:
    """A page: notice, title, parts with a blank line between them."""
    return "\n\n".join([_NOTICE, f"# {title}", *(part for part in parts if part)]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; cells are escaped so that a bar or line end cannot break it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", "<br>")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _links(ids: Iterable[str], target: str) -> str:
    return ", ".join(f"[{each}]({target}#{each.lower()})" for each in ids)


def rules_page() -> str:
    """Every rule with its own anchor, e.g. ``rules.md#i001``."""
    severities = table(
        ("letter", "what happens"), ((letter, text) for letter, text in rules.SEVERITIES.items())
    )
    parts = [
        "What nemflow checks, how bad it is under each rule profile, and what to do about it. "
        "`nemflow explain I001` prints the same. Ids are public: they are never reused.",
        severities,
        "`b2b` is the strict profile for files between market participants; `portal` is the "
        "tolerant one for downloads. What is tolerated is listed in "
        "[deviations](deviations.md). Section numbers are those of AEMO's *Meter Data File Format "
        "Specification NEM12 & NEM13*, version 2.5.",
        "Reading never drops a day it can understand, whatever the rules say of it: a rejected "
        "day is in the frames with the rule's id in `rejected_by`, and only a load leaves it out.",
    ]
    for letter, title in rules.SERIES.items():
        series = [rule for rule in rules.RULES.values() if rule.id[0] == letter]
        parts.append(f"## {letter}: {title}")
        parts.append(
            table(
                ("rule", "what is wrong", "b2b", "portal"),
                ((f"[{r.id}](#{r.id.lower()})", r.title, r.b2b, r.portal) for r in series),
            )
        )
        parts += [_rule(rule) for rule in series]
    return page("Rules", *parts)


def _rule(rule: rules.Rule) -> str:
    facts = [
        f"- Record: {rule.record}",
        f"- Specification: {rule.spec}",
        f"- Severity: b2b {rule.b2b}, portal {rule.portal}",
    ]
    facts += [f"  - b2b {v.b2b}, portal {v.portal}, when {v.when}" for v in rule.variants]
    if rule.needs:
        facts.append(f"- Needs: {rule.needs}")
    if rule.deviations:
        facts.append(f"- Deviations: {_links(rule.deviations, 'deviations.md')}")
    parts = [
        f"### {rule.id}",
        f"**{rule.title}**",
        "\n".join(facts),
        f"Expected: {rule.expected}.",
        f"What to do: {rule.todo}",
        f"What is wrong looks like this:\n\n```\n{rule.example}\n```",
    ]
    return "\n\n".join(parts)


def deviations_page() -> str:
    """The deviations, each with an anchor of its own, e.g. ``deviations.md#d08``."""
    intro = (
        "How files seen in the field leave the specification, and what nemflow does with them "
        "under each profile. Where a rule is named, a finding says so; where none is, the file is "
        "legal."
    )
    overview = table(
        ("id", "what it looks like", "rules"),
        (
            (f"[{d.id}](#{d.id.lower()})", d.what, _links(d.rules, "rules.md") or "none: legal")
            for d in rules.DEVIATIONS.values()
        ),
    )
    parts = [
        "\n\n".join(
            (
                f"### {d.id}",
                _capital(d.what) + ".",
                f"- portal: {d.portal}\n- b2b: {d.b2b}\n"
                f"- reported by: {_links(d.rules, 'rules.md') or 'nothing, it is legal'}",
            )
        )
        for d in rules.DEVIATIONS.values()
    ]
    return page("Deviations", intro, overview, *parts)


def codes_page() -> str:
    """The code lists."""
    return page(
        "Codes",
        "The code lists of NEM12 and NEM13 as nemflow knows them (`nemflow.mdff.codes`). "
        "*Not verified* marks what neither AEMO's own text nor two independent programs confirm.",
        "[Quality flags](#quality-flags) · [Methods](#methods) · [Reason codes](#reason-codes) · "
        "[Transaction codes](#transaction-codes) · [Units](#units) · [Suffixes](#suffixes) · "
        "[Direction](#direction) · [Installation types](#installation-types)",
        "## Quality flags",
        _flags(),
        "The rank is for display: the quality of a sum is the weakest within it. It never decides "
        "which version of a day holds.",
        "## Methods",
        "The two digits after E, S and F are the types of the *Metrology Procedure: Part B*. An "
        "unknown number is rule [Q002](rules.md#q002), a number with the wrong flag "
        "[Q003](rules.md#q003).",
        _methods(),
        "## Reason codes",
        "Numbers were given new meanings over time: a title holds for the dates beside it, and "
        "nemflow stores the number. Obsolete codes on later days are rule [Q007](rules.md#q007).",
        _reasons(),
        "## Transaction codes",
        "Why a read was made or tried (500 and 550); others are rule [B001](rules.md#b001).",
        table(
            ("code", "action", "what for"),
            (
                (t.code, t.action, t.gist + (" (history only)" if t.obsolete else ""))
                for t in codes.TRANS_CODES.values()
            ),
        ),
        "## Units",
        "Read in any case, stored in this spelling. Only energy is added up over time; everything "
        "else is averaged or held. Others are rule [N005](rules.md#n005).",
        _units(),
        "## Suffixes",
        "Directions are seen from the grid: E is what the customer consumes, B is what the "
        "customer feeds in. Home portals often call feed-in *export*, the other way round.",
        "Interval data (NEM12): a letter, then the meter or measuring element (1 to 9, A to Z "
        "without I and O).",
        _suffixes(),
        "Accumulation data (NEM13): a digit, then the meter. Direction and quantity come from the "
        "record itself.",
        table(
            ("first", "meaning"),
            ((k.first, k.meaning) for k in codes.ACCUMULATION_KINDS.values()),
        ),
        "## Direction",
        table(("DirectionIndicator", "meaning"), codes.DIRECTION_INDICATORS.items()),
        "## Installation types",
        "For context; no record of the format carries them.",
        table(
            ("code", "meaning", "verified"),
            ((t.code, t.meaning, _MARK[t.verified]) for t in codes.INSTALLATION_TYPES.values()),
        ),
    )


def _flags() -> str:
    rows = (
        (
            flag.letter,
            flag.meaning + (f" (withdrawn {_day(flag.withdrawn)})" if flag.withdrawn else ""),
            "two digits" if flag.has_method else "none",
            flag.reason,
            ", ".join(flag.records),
            flag.rank if flag.rank >= 0 else "",
        )
        for flag in codes.QUALITY_FLAGS.values()
    )
    return table(("flag", "meaning", "method", "reason", "records", "rank"), rows)


def _methods() -> str:
    rows = (
        (
            method.number,
            method.name,
            "yes" if method.estimate else "",
            "yes" if method.substitute else "",
            method.installations,
            "; ".join(
                part
                for part in (
                    f"obsolete since {_day(method.obsolete_since)}"
                    if method.obsolete_since
                    else "",
                    method.note,
                    _MARK[method.verified],
                )
                if part
            ),
        )
        for method in codes.METHOD_FLAGS.values()
    )
    return table(("method", "name", "after E", "after S, F", "types", "note"), rows)


def _reasons() -> str:
    rows = (
        (
            reason.code,
            reason.title,
            _day(reason.valid_from),
            _day(reason.valid_until),
            "; ".join(part for part in (reason.gist, _MARK[reason.verified]) if part),
        )
        for meanings in codes.REASONS.values()
        for reason in meanings
    )
    return table(("code", "title", "from", "until", "note"), rows)


def _units() -> str:
    rows = (
        (unit.name, unit.group, f"{unit.scale:,} {unit.base}", unit.decimals, _yes(unit.summable))
        for unit in codes.UNITS.values()
    )
    return table(("unit", "measures", "is", "decimals", "added up"), rows)


def _suffixes() -> str:
    rows = (
        (kind.first, kind.meaning, kind.direction, kind.quantity, kind.role,
         " or ".join(kind.unit_groups) or "any")
        for kind in codes.INTERVAL_KINDS.values()
    )  # fmt: skip
    return table(("first", "meaning", "direction", "quantity", "role", "units"), rows)


def _day(day: date | None) -> str:
    return day.isoformat() if day else ""


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def records_page() -> str:
    """The eight records, field by field."""
    letters = ", ".join(f"**{k}** {v}" for k, v in layout.REQUIREMENTS.items())
    parts = [
        "The records of NEM12 and NEM13, field by field (`nemflow.mdff.layout`). Every field has "
        "its comma, also when it is empty; there is no quoting, and no field may hold a comma.",
        f"Requirement: {letters}; two letters mean that it depends.",
        "NEM12: `100 (200 (300 400* 500*)+)+ 900`. NEM13: `100 (250 550*)+ 900`.",
    ]
    for record in layout.RECORDS.values():
        width = "7 + N fields" if record.indicator == "300" else _fields(record.width())
        parts += [
            f"## {record.indicator}",
            f"**{record.title}** · {' and '.join(record.file_kinds)} · {width} · "
            f"MDFF {record.spec}",
            table(
                ("#", "field", "type", "requirement", "a filled field matches", "note"),
                _field_rows(record),
            ),
        ]
    return page("Records", *parts)


def _fields(count: int) -> str:
    return f"{count} field" + ("s" if count != 1 else "")


def _field_rows(record: layout.Record) -> Iterable[Sequence[object]]:
    shift = ""
    for number, field in enumerate(record.fields, start=1):
        place = f"N+{number - 1}" if shift else number
        name = field.name
        if field.repeats:
            place, name, shift = f"{number} … N+{number - 1}", f"{field.name}1 … N", "N"
        yield place, name, field.type, field.requirement, f"`{field.pattern}`", field.note


def cli_page() -> str | None:
    """Every command with its arguments and options; None while there is no command line."""
    try:
        import typer

        from nemflow.cli import app
    except ImportError:
        return None
    root: Any = typer.main.get_command(app)
    parts = [root.help or "", "Every command takes `--help`."]
    parts += [text for name, command in _commands(root) for text in _command(name, command)]
    if root.epilog:
        parts.append(root.epilog)
    return page("Command line", *parts)


def _commands(group: Any, prefix: str = "nemflow") -> Iterable[tuple[str, Any]]:
    """Every visible command below a group, with its whole name, in the group's order."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        whole = f"{prefix} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, whole)
        else:
            yield whole, command


def _command(name: str, command: Any) -> list[str]:
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [
        (f"`{record[0]}`", record[1])
        for param in command.params
        if (record := param.get_help_record(context)) is not None
    ]
    return [
        f"## {name}",
        (command.help or "").strip(),
        f"```\n{usage}\n```",
        table(("argument or option", "meaning"), rows) if rows else "",
    ]


_SETTINGS_INTRO = """\
What can be set, and where. Every source is optional; a later one wins, key by key:

1. `nemflow.toml` in the current folder, or the file named by `--config` or `NEMFLOW_CONFIG`;
2. the file's overlay of the chosen [environment](#environments);
3. the environment variables, `NEMFLOW_…`, and the [secret files](#secrets) they name;
4. the command line (`--db`, `--profile`, ...).

An unknown key is an error that names the nearest known one, in the file, in every overlay and in
the variables. `nemflow config show` prints every value, where it came from and what it means
(`nemflow config show pool` one table of them, `--changed` only what is not as it comes, `--json`
and `--csv` for programs); passwords and keys are masked. `nemflow config check` reads all sources,
opens nothing, and ends with 2 when something is wrong: run it before a restart.

```toml
# nemflow.toml
db = "sqlite:///data/meters.db"
profile = "b2b"
value_limits = { "E1 kWh" = 50, "* V" = 300 }

[limits]
members = 20_000
total_bytes = "4 GiB"
```"""
_SETTINGS_ENVIRONMENTS = """\
The same file serves several environments: what differs stands in a table of its name, and
`--environment`, `NEMFLOW_ENVIRONMENT` or `environment = "…"` in the file chooses one.

```toml
db = "sqlite:///nemflow.db"

[environments.dev]

[environments.staging]
db = "postgresql:///meters_staging"
queue.prefix = "nemflow_staging"

[environments.production]
db = "postgresql://nemflow@db.example/meters"
queue.url = "redis://queue.example:6379/0"
[environments.production.worker]
threads = 2
```

A file with such tables knows exactly the names it has tables for (an empty table is a name too);
a file without knows `dev`, `staging` and `production`. Any other name is an error, so a slip never
means the settings of another environment. Every overlay is read and checked, in use or not."""
_SETTINGS_SECRETS = """\
Every variable has a twin with `_FILE` behind it that names a file holding the value in one line:
`NEMFLOW_DB_FILE=/run/secrets/db_url`, `NEMFLOW_QUEUE_URL_FILE`. The line end is not part of it. The
value and its file at the same time are an error, and so is a file that is missing, empty or
unreadable: a store nobody meant must not be opened instead. Containers' secrets and systemd's
`LoadCredential` both give such files; see [production](production.md)."""
_SETTINGS_FEATURES = """\
Every way in and every optional part is a switch of the table `features`. A part that must be told
something first is on as soon as it is told; `nemflow serve` prints what is on, and what is off and
why."""
_SETTINGS_OTHERS = (
    ("NEMFLOW_API_KEY", "The API key that `nemflow submit` sends."),
    ("NEMFLOW_API_KEY_FILE", "A file that holds it instead."),
    ("NEMFLOW_CONFIG", "The settings file to read, unless `--config` names one."),
    ("NEMFLOW_DEBUG", "`1` prints the traceback of a fault, for a report to us."),
)


def telemetry_page() -> str:
    """What a running service tells of itself: numbers, lines, spans, alarms."""
    from nemflow.telemetry import logs, metrics

    alerts = re.findall(
        r"- alert: (\w+)\n(.*?)(?=\n      - alert|\Z)",
        (DOCS.parent / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"),
        re.DOTALL,
    )

    def said(word: str, text: str) -> str:
        found = re.search(rf"{word}: (.+)", text)
        return (
            ""
            if found is None
            else found[1].strip('"').replace("{{ $labels.", "").replace(" }}", "")
        )

    def numbers(which: Mapping[str, metrics.Meaning]) -> str:
        return table(
            ("metric", "type", "labels", "what"),
            ((f"`{name}`", m.kind, ", ".join(m.labels), m.what) for name, m in which.items()),
        )

    return page(
        "Telemetry",
        "What a running service tells of itself: [numbers](#numbers) for Prometheus, "
        "[lines](#lines) of the log, [spans](#spans) for OpenTelemetry, and [alerts](#alerts). "
        "None of them holds meter data, a key's secret or the name of a file.",
        "## Numbers",
        "`nemflow serve` answers `/metrics` on its own port (scope `read` once there are keys). "
        "Every `nemflow worker` process answers on a port of its own: `metrics.host`, "
        "`metrics.port` (loopback, 8700), the next free one for the next process. With the queue "
        "in memory the loading processes report to the service, so its numbers are complete. "
        "`features.metrics = false` switches all of it off.",
        "Counters count what a process has done since it began, after the commit of each thing. "
        "Days read are days stored, unchanged and rejected; add counters up over processes. After "
        "a run without kills they equal the ledger's own sums; a process that is killed between a "
        "commit and its count leaves the count short, never the ledger. What is asked of the "
        "ledger comes from the service only: take the maximum over several of them, not the sum.",
        "### What each process counts",
        numbers(metrics.TOLD),
        "### What is asked when somebody scrapes",
        numbers(metrics.ASKED),
        f"Senders are the {metrics.MOST_SENDERS} heard of last. `reason` and `rule` are rule ids "
        "([rules](rules.md)) and error codes ([service](service.md)).",
        "## Lines",
        "`log.format`: `text` for eyes, `json`, or `auto`: text on a terminal, else JSON, one line "
        "each, on standard error. `log.level` is `info`; `debug` adds each step. A delivery has "
        "one line when it ends (`delivery finished`), a request has one (`request`). An upload's "
        "`X-Request-ID` (made when none was sent; it is in every answer) is on all lines up to the "
        "last of its loading, whichever process writes them. Of an exception that is not one of "
        "our own errors only type and place are written: its message may quote data.",
        table(("field", "what"), ((f"`{name}`", what) for name, what in logs.FIELDS.items())),
        "## Spans",
        "With `tracing.endpoint` (OTLP over HTTP, extra `tracing`) every request and delivery "
        "makes spans. A caller's `traceparent` is gone on with. The ledger keeps it with the "
        "delivery, so a worker on another machine goes on in the same trace. A further attempt is "
        "a span of its own with a link to the one before; a retry by a person begins "
        "at the request that asked.",
        table(("span", "what"), ((f"`{name}`", what) for name, what in _SPANS.items())),
        "## Alerts",
        "`deploy/prometheus` has the rules, tested with `promtool test rules`, and what to scrape; "
        "`deploy/grafana` has the dashboard, each query of which is asked of a real Prometheus "
        "in a test. `docker compose --profile watch` starts Prometheus (alerts on "
        "http://127.0.0.1:9090/alerts; name your Alertmanager in prometheus.yml to be told), "
        "Grafana (http://127.0.0.1:3000) and a collector, which only prints spans: have it send "
        "them to where you look at traces. *NemflowSenderSilent* knows who was heard of in the "
        "last 28 days, at most a hundred senders, those overdue first; who has sent in one hour "
        "only has no rhythm yet.",
        table(
            ("alert", "severity", "means", "do"),
            (
                (name, said("severity", text).strip("}"), said("summary", text), said("todo", text))
                for name, text in alerts
            ),
        ),
    )


def settings_page() -> str:
    """Every setting: key, variable, default, meaning, and an example of each."""
    known = settings.catalogue()
    return page(
        "Settings",
        _SETTINGS_INTRO,
        "## Environments",
        _SETTINGS_ENVIRONMENTS,
        "## Secrets",
        _SETTINGS_SECRETS,
        "## What can be switched off",
        _SETTINGS_FEATURES,
        table(
            ("switch", "what it is", "needs"),
            ((f"`{f.key}`", f.what, f"`{f.needs}`" if f.needs else "") for f in FEATURES),
        ),
        "## What there is",
        table(
            ("key", "variable", "default", "what it does"),
            ((f"`{s.key}`", f"`{s.env}`", s.default, s.what) for s in known),
        ),
        "Sizes may be written as text with a unit: B, kB, MB, GB, KiB, MiB, GiB.",
        "## An example of each",
        "```toml\n" + "\n".join(s.example for s in known) + "\n```",
        'In a variable value limits are written `NEMFLOW_VALUE_LIMITS="E1 kWh=50, * V=300"`, and '
        "switches true or false, yes or no, on or off, 1 or 0.",
        "## Variables that are no settings",
        table(("variable", "what it does"), ((f"`{n}`", text) for n, text in _SETTINGS_OTHERS)),
    )


#: Every generated page: file name below docs/, and the function that writes its text.
#: A function that returns None has nothing to write yet.
PAGES: list[tuple[str, Callable[[], str | None]]] = [
    ("rules.md", rules_page),
    ("deviations.md", deviations_page),
    ("codes.md", codes_page),
    ("records.md", records_page),
    ("cli.md", cli_page),
    ("settings.md", settings_page),
    ("telemetry.md", telemetry_page),
]


def stale_pages(folder: Path = DOCS) -> list[str]:
    """Names of the pages in ``folder`` that differ from what the code says, or are not there."""
    stale = []
    for name, build in PAGES:
        text = build()
        path = folder / name
        if text is not None and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
    return stale


def write_pages(folder: Path = DOCS) -> list[str]:
    """Write the pages that are stale and return their names."""
    stale = stale_pages(folder)
    for name, build in PAGES:
        if name in stale:
            (folder / name).write_text(build() or "", encoding="utf-8", newline="\n")
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or with ``--check`` only say which are stale; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when stale")
    parser.add_argument("--into", type=Path, default=DOCS, help="the folder, default docs/")
    given = parser.parse_args(arguments)
    if given.check:
        stale = stale_pages(given.into)
        if stale:
            sys.stderr.write(
                f"Stale in docs/: {', '.join(stale)}. The code says something else by now; "
                "run `make docs` and commit the result.\n"
            )
        return 1 if stale else 0
    written = write_pages(given.into)
    sys.stdout.write(f"Written: {', '.join(written) or 'nothing, every page is fresh'}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
