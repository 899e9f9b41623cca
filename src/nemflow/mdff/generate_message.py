"""An aseXML message around meter data, and the name a file would have.

Why: between participants the text travels inside an MTRD message (spec §8.1-§8.3), alone it
travels under a name that repeats its header (spec §1.2); demos and tests need both.
Promise: well-formed XML, one Transaction for each text, every id given or derived from the
content, so equal arguments give equal bytes.
Where next: ``asexml.py`` is the way back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from nemflow.errors import UsageError

_PAYLOADS: Final = {"NEM12": "CSVIntervalData", "NEM13": "CSVConsumptionData"}
#: Rules that a message can break and a bare text cannot.
_BREAKABLE: Final = ("F008", "F020")


def generate_message(
    text: bytes | Sequence[bytes],
    *,
    message_id: str | None = None,
    transaction_ids: Sequence[str] | None = None,
    message_at: datetime | None = None,
    from_participant: str | None = None,
    to_participant: str | None = None,
    role: str = "FRMP",
    priority: str = "Low",
    release: str = "r43",
    record_count: bool = False,
    break_it: Sequence[str] = (),
) -> bytes:
    """Wrap NEM12 or NEM13 text in an aseXML MTRD message (spec §8.3), UTF-8.

    Args:
        text: one file's text, or several: one Transaction each.
        message_id: 1 to 36 characters; by default made from sender, time and content.
        transaction_ids: one for each text; by default made like the message id.
        message_at: market time; by default the first header's DateTime.
        from_participant: the sender; by default the first header's.
        to_participant: the recipient; by default the first header's.
        role: the recipient's role.
        priority: Low, Medium or High.
        release: of the aseXML schema.
        record_count: give the number of records beside each payload.
        break_it: F008 (the envelope names another recipient than the header) or F020 (the
            RecordCount is one too many).

    Raises:
        UsageError: a text without a 100 record, ids that do not match the texts, or a rule
            that an envelope cannot break.
    """
    texts = [text] if isinstance(text, bytes) else list(text)
    wrong = sorted(set(break_it) - set(_BREAKABLE))
    if wrong:
        message = f"A message cannot break {', '.join(wrong)}."
        raise UsageError(message, hint=f"It can break {' and '.join(_BREAKABLE)}.")
    heads = [_header(each) for each in texts]
    if not heads:
        message = "A message needs at least one text."
        raise UsageError(message)
    sender = from_participant or heads[0]["from"]
    receiver = to_participant or heads[0]["to"]
    if "F008" in break_it:
        receiver = "OTHERRET" if receiver != "OTHERRET" else "RETEXMPL"
    if message_at is not None:
        stamp = f"{message_at:%Y-%m-%dT%H:%M:%S}.000+10:00"
    else:
        at = heads[0]["at"]
        stamp = f"{at[:4]}-{at[4:6]}-{at[6:8]}T{at[8:10]}:{at[10:12]}:00.000+10:00"
    marks = [hashlib.sha256(each).hexdigest()[:9].upper() for each in texts]
    message_id = message_id or f"{sender}-MSG-{heads[0]['at'][:8]}-{marks[0]}"
    if transaction_ids is None:
        transaction_ids = [
            f"{sender}-TNS-{mark}-{number}" for number, mark in enumerate(marks, start=1)
        ]
    if len(transaction_ids) != len(texts):
        message = f"{len(texts)} texts need as many transaction ids, not {len(transaction_ids)}."
        raise UsageError(message)
    extra = 1 if "F020" in break_it else 0
    counted = record_count or bool(extra)
    body = "".join(
        _transaction(
            each,
            head["kind"],
            identity,
            stamp=stamp,
            role=role,
            more=extra if counted else None,
        )
        for each, head, identity in zip(texts, heads, transaction_ids, strict=True)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ase:aseXML xmlns:ase="urn:aseXML:{release}" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="urn:aseXML:{release} \
http://www.nemmco.com.au/aseXML/schemas/{release}/aseXML_{release}.xsd">
  <Header>
    <From>{escape(sender)}</From>
    <To>{escape(receiver)}</To>
    <MessageID>{escape(message_id)}</MessageID>
    <MessageDate>{stamp}</MessageDate>
    <TransactionGroup>MTRD</TransactionGroup>
    <Priority>{escape(priority)}</Priority>
    <Market>NEM</Market>
  </Header>
  <Transactions>
{body}  </Transactions>
</ase:aseXML>
""".encode()


def file_name(text: bytes, *, unique_id: str | None = None) -> str:
    """Give the standalone name of a file, ``NEM12#UniqueID#From#To.csv`` (spec §1.2).

    Args:
        text: the file's text, from its 100 record on.
        unique_id: up to 36 letters and digits; by default from the DateTime and content.

    Raises:
        UsageError: no 100 record at the start, or an id of other characters.
    """
    head = _header(text)
    mark = hashlib.sha256(text).hexdigest()[:6].upper()
    unique_id = unique_id or head["at"] + mark
    if not re.fullmatch(r"[A-Za-z0-9]{1,36}", unique_id):
        message = f"{unique_id!r} is not 1 to 36 letters and digits."
        raise UsageError(message)
    return f"{head['kind']}#{unique_id}#{head['from']}#{head['to']}.csv"


def _header(text: bytes) -> dict[str, str]:
    line = text[:200].split(b"\n", 1)[0].decode("latin-1").strip()
    fields = line.split(",")
    if len(fields) < 5 or fields[0] != "100" or fields[1] not in _PAYLOADS:
        message = "The text does not begin with the 100 record of a NEM12 or NEM13 file."
        raise UsageError(message)
    return dict(zip(("kind", "at", "from", "to"), fields[1:5], strict=True))


def _transaction(
    text: bytes, kind: str, identity: str, *, stamp: str, role: str, more: int | None
) -> str:
    payload = _PAYLOADS[kind]
    # An XML reader turns CRLF into LF whatever is written here, so LF is the honest form.
    lines = escape(text.decode("utf-8", errors="replace")).replace("\r\n", "\n")
    count = ""
    if more is not None:
        records = lines.count("\n") + more
        count = f"<RecordCount>{records}</RecordCount>\n        "
    return f"""    <Transaction transactionID={quoteattr(identity)} transactionDate="{stamp}">
      <MeterDataNotification version="r25">
        {count}<{payload}>{lines}</{payload}>
        <ParticipantRole>
          <Role>{escape(role)}</Role>
        </ParticipantRole>
      </MeterDataNotification>
    </Transaction>
"""
