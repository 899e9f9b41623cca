"""Files that break one rule at a time, on purpose.

Why: a rule that nothing breaks is not known to work; a demo without a broken file shows half
the product.

Promise: each rule id adds its own records before the 900, under a sample NMI that nobody else
in the file has, so that the file's other days stay exactly as they were and any number of
rules can be broken at once. Rules about the file as a whole change the whole file.

Where next: ``generate_broken_days.py`` and ``generate_broken_reads.py`` hold the records,
``rules.py`` what each rule says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from nemflow.errors import UsageError
from nemflow.mdff.generate_broken_days import DAY_BREAKERS, DayStage
from nemflow.mdff.generate_broken_reads import READ_BREAKERS, ReadStage

#: Rules no text can break by itself, and why.
UNBREAKABLE: Final[Mapping[str, str]] = {
    "F008": "it compares with the envelope or with our own id: generate_message can break it",
    "F019": "it compares with the file's name: give the file another name",
    "F020": "it compares with the envelope's count: generate_message can break it",
    "N002": "it compares with the list of our NMIs: leave a sample NMI out of the list",
}


def _without_header(lines: list[str]) -> list[str]:
    return lines[1:]


def _unknown_version(lines: list[str]) -> list[str]:
    return [re.sub(r"^100,NEM1[23]", "100,NEM14", lines[0]), *lines[1:]]


def _bad_header_date(lines: list[str]) -> list[str]:
    fields = lines[0].split(",")
    fields[2] = "202502300215"  # 30 February
    return [",".join(fields), *lines[1:]]


def _without_end(lines: list[str]) -> list[str]:
    return lines[:-1]


def _without_data(lines: list[str]) -> list[str]:
    return [lines[0], lines[-1]]


def _other_kind(lines: list[str]) -> list[str]:
    nmi, at = _free_nmis("\n".join(lines)), _file_time(lines[0])
    if lines[0].startswith("100,NEM13"):
        extra = DayStage(next(nmi), at, lines[0]).block()
    else:
        extra = ReadStage(next(nmi), at, lines[0]).block()
    return [*lines[:-1], *extra, lines[-1]]


def _order_first(lines: list[str]) -> list[str]:
    return [lines[0], "550,N,,N,", *lines[1:]]


def _portal_table(lines: list[str]) -> list[str]:
    nmi, day = next(_free_nmis("\n".join(lines))), _file_time(lines[0]) - timedelta(days=1)
    hours = [f"{hour:02d}:{half:02d}" for hour in range(24) for half in (0, 30)]
    columns = [f"{a} - {b}" for a, b in zip(hours, [*hours[1:], "00:00"], strict=True)]
    readings = ["0.25"] * 48
    return [
        ",".join(["NMI", "METER SERIAL NUMBER", "CON/GEN", "DATE", "ESTIMATED?", *columns]),
        ",".join([nmi, "EX0009999", "Consumption", f"{day:%d/%m/%Y}", "No", *readings]),
    ]


#: Rules about the file as a whole, in the order in which they can be broken together.
_FILE_BREAKERS: Final[Mapping[str, Callable[[list[str]], list[str]]]] = {
    "F004": _other_kind,
    "F003": _unknown_version,
    "F007": _bad_header_date,
    "F011": _without_data,
    "F002": _without_header,
    "F006": _without_end,
    "F018": _portal_table,
}
#: Rules about bytes, after all others.
_BYTE_BREAKERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "F014": lambda text: text.replace(b"\r\n", b"\n"),
    # One line of more than 64 KiB: no record is that long, a binary file or an attack is.
    "F001": lambda text: text.removesuffix(b"900\r\n") + b"0" * 70_000 + b"\r\n900\r\n",
}

#: Rule id -> the kinds of file that can break it.
BREAKABLE: Final[Mapping[str, tuple[str, ...]]] = {
    rule: tuple(
        kind
        for kind, records in (("NEM12", DAY_BREAKERS), ("NEM13", READ_BREAKERS))
        if rule in records or rule in _FILE_BREAKERS or rule in _BYTE_BREAKERS
    )
    for rule in sorted({*DAY_BREAKERS, *READ_BREAKERS, *_FILE_BREAKERS, *_BYTE_BREAKERS})
}


def broken(text: bytes, rules: Sequence[str]) -> bytes:
    """Give ``text`` (canonical, one 100...900) with a violation of each rule in ``rules``.

    Raises:
        UsageError: a rule that is unknown, that no text can break, or not in this kind of file.
    """
    wanted = [rules.upper()] if isinstance(rules, str) else [rule.upper() for rule in rules]
    lines = text.decode("ascii").split("\r\n")[:-1]
    kind = lines[0].split(",")[1]
    for rule in wanted:
        _check(rule, kind)
    added = list(_added(wanted, kind, lines))
    lines = [*lines[:-1], *added, lines[-1]]
    if kind == "NEM13" and "F010" in wanted:
        lines = _order_first(lines)
    for rule, change in _FILE_BREAKERS.items():
        if rule in wanted:
            lines = change(lines)
    result = "".join(f"{line}\r\n" for line in lines).encode("utf-8")
    for rule, mangle in _BYTE_BREAKERS.items():
        if rule in wanted:
            result = mangle(result)
    return result


def _check(rule: str, kind: str) -> None:
    if rule in UNBREAKABLE:
        message = f"No text can break {rule}: {UNBREAKABLE[rule]}."
        raise UsageError(message)
    if rule not in BREAKABLE:
        message = f"There is no rule {rule}."
        raise UsageError(message, hint="See docs/rules.md, or nemflow explain.")
    if kind not in BREAKABLE[rule]:
        message = f"A {kind} file cannot break {rule}."
        raise UsageError(message, hint=f"Ask for kind={BREAKABLE[rule][0]!r}.")


def _added(rules: Iterable[str], kind: str, lines: list[str]) -> Iterator[str]:
    nmis, at = _free_nmis("\n".join(lines)), _file_time(lines[0])
    for rule in dict.fromkeys(rules):
        if kind == "NEM12" and rule in DAY_BREAKERS:
            yield from DAY_BREAKERS[rule](DayStage(next(nmis), at, lines[0]))
        elif kind == "NEM13" and rule in READ_BREAKERS:
            yield from READ_BREAKERS[rule](ReadStage(next(nmis), at, lines[0]))


def _free_nmis(text: str) -> Iterator[str]:
    """Give sample NMIs the text does not use, from SASMPL9999 down."""
    taken = set(re.findall(r"SASMPL\d{4}", text))
    return (nmi for nmi in (f"SASMPL{n:04d}" for n in range(9999, 0, -1)) if nmi not in taken)


def _file_time(header: str) -> datetime:
    return datetime.strptime(header.split(",")[2][:12], "%Y%m%d%H%M")  # noqa: DTZ007 - market time
