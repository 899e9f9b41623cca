"""The aseXML envelope: from a message to the meter data in it.

Why: between market participants an MDFF text travels inside one element of an aseXML message.

Promises: reading is one pass over a stream, in memory only as large as the meter data in it;
document types and entities are refused, depth, attributes, text and tags are counted against
limits. Elements are found by name, not by order, under any aseXML release. A payload knows the
line of the XML file it starts on, so findings point into that file. Only nemflow's errors leave
this module. Format: spec section 8.
Where to look next: ``acknowledgements`` writes the answers, ``reader`` parses the payloads.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from xml.parsers import expat

from nemflow.errors import EnvelopeRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

_Kind = Literal["NEM12", "NEM13"]
_PAYLOADS: dict[str, _Kind] = {
    "CSVIntervalData": "NEM12",
    "CSVConsumptionData": "NEM13",
}
_HEADER = {
    "MessageID": "message_id",
    "MessageDate": "message_date",
    "From": "sender",
    "To": "receiver",
    "TransactionGroup": "transaction_group",
    "Priority": "priority",
    "SecurityContext": "security_context",
    "Market": "market",
}
_ACKNOWLEDGEMENTS: dict[str, Literal["message", "transaction"]] = {
    "MessageAcknowledgement": "message",
    "TransactionAcknowledgement": "transaction",
}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CUT_SHORT = {
    expat.errors.codes[text]
    for text in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
}
_CHUNK = 1 << 16
_TOKEN_BYTES = 1 << 21  # one tag or comment; expat reads an unfinished one again and again
_FACT_CHARACTERS = 1 << 12  # of a header field; honest ones have at most 36
_BLANK = b" \t\r\n"
_AGAIN = "Ask the sender for the message again; it may have been damaged on the way."


@dataclass(frozen=True, slots=True)
class XmlLimits:
    """How much of a message is read."""

    depth: int = 50  #: elements inside each other
    attributes: int = 64  #: of one element
    elements: int = 2_000_000  #: of the message
    text_bytes: int = 128 << 20  #: all text of the message; honest ones stay below 10 MB
    transactions: int = 100_000  #: transactions, payloads and acknowledgements of a message


DEFAULT_LIMITS = XmlLimits()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the message says about one transaction. None: not given. Dates are kept as written."""

    message_id: str | None = None
    message_date: str | None = None
    sender: str | None = None  #: From
    receiver: str | None = None  #: To
    transaction_group: str | None = None  #: MTRD for meter data
    priority: str | None = None
    market: str | None = None
    security_context: str | None = None
    release: str | None = None  #: of the schema, e.g. "r43"
    transaction_id: str | None = None
    transaction_date: str | None = None
    initiating_transaction_id: str | None = None  #: the request this transaction answers
    transaction: str | None = None  #: its element, e.g. "MeterDataNotification"
    version: str | None = None  #: of that element, e.g. "r25"
    kind: _Kind | None = None  #: by the payload's element; None: no payload
    role: str | None = None  #: the receiver's role, e.g. "FRMP"
    record_count: int | None = None  #: RecordCount, when given and a number


@dataclass(frozen=True, slots=True)
class Payload:
    """One MDFF text (100...900) found in a message."""

    envelope: Envelope
    text: bytes  #: UTF-8, outer blanks trimmed, lines end with LF
    first_line: int  #: the line of the XML file on which ``text`` starts, from 1


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One acknowledgement found in a message: somebody's answer to what we sent."""

    kind: Literal["message", "transaction"]
    initiating_id: str | None
    status: str | None
    duplicate: bool
    receipt_id: str | None
    receipt_date: str | None
    accepted_count: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """One aseXML message, read to its end."""

    source: str
    header: Envelope  #: the message's facts, no transaction
    transactions: list[Envelope]  #: in order, those without meter data too
    payloads: list[Payload]  #: in order; a transaction may have none or several
    acknowledgements: list[Acknowledgement]


def read_message(
    message: BinaryIO | bytes,
    *,
    source: str = "<message>",
    limits: XmlLimits = DEFAULT_LIMITS,
    need_payload: bool = True,
) -> Message:
    """Read one aseXML message from its first byte to its last.

    Args:
        message: the XML, as a binary stream (left at its end) or bytes.
        source: what to call it in errors.
        limits: how much is read.
        need_payload: False also returns messages that carry no meter data, for example to read
            the acknowledgements others send.

    Raises:
        EnvelopeRefused: not XML, not aseXML, broken, hostile, over a limit, or (rule F018)
            without meter data, saying what it carries instead.
    """
    reader = _Reader(source, limits)
    stream = io.BytesIO(message) if isinstance(message, bytes) else message
    reader.feed(stream)
    result = reader.message()
    if need_payload and not result.payloads:
        raise EnvelopeRefused(
            f"the message carries no meter data: {_contents(result)}.",
            source=source,
            rule="F018",
            hint="Meter data travels in a MeterDataNotification with CSVIntervalData (NEM12) or "
            "CSVConsumptionData (NEM13).",
        )
    return result


class _Reader:
    """Expat's events -> the parts of a Message."""

    def __init__(self, source: str, limits: XmlLimits) -> None:
        self.source = source
        self.limits = limits
        self.skipped_lines = 0  # blank lines before the XML, which expat would refuse
        self.path: list[str] = []  # local names from the root down
        self.elements = 0
        self.text_bytes = 0
        self.header: dict[str, Any] = {}
        self.transactions: list[dict[str, Any]] = []
        self.payloads: list[tuple[dict[str, Any], _Kind, bytes, int]] = []
        self.acknowledgements: list[Acknowledgement] = []
        self.transaction: dict[str, Any] | None = None  # the open one
        self.fact: tuple[int, dict[str, Any], str] | None = None  # depth, where to put it, as what
        self.fact_text = ""
        self.payload: bytearray | None = None  # the open one's text so far
        self.payload_line = 0
        self.parser = parser = expat.ParserCreate()
        parser.buffer_size = _CHUNK
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = self.refuse_doctype
        parser.EntityDeclHandler = self.refuse_doctype

    def message(self) -> Message:
        header = Envelope(**self.header)
        return Message(
            self.source,
            header,
            [replace(header, **facts) for facts in self.transactions],
            [
                Payload(replace(header, **facts | {"kind": kind}), text, line)
                for facts, kind, text, line in self.payloads
            ],
            self.acknowledgements,
        )

    def feed(self, stream: BinaryIO) -> None:
        """Parse the stream to its end."""
        fed = 0
        try:
            for chunk in self._chunks(stream):
                fed += len(chunk)
                self.parser.Parse(chunk, False)
                if fed - max(0, self.parser.CurrentByteIndex) > _TOKEN_BYTES:
                    raise self.refused("one of its tags or comments has no end")
            self.parser.Parse(b"", True)
        except expat.ExpatError as error:
            what = _complaint(error.code) if fed else "the message is empty"
            raise self.refused(what, hint=_AGAIN) from error
        except (LookupError, ValueError) as error:  # from the codec its first line names
            raise self.refused(f"its encoding cannot be read ({error})", hint=_AGAIN) from error

    def _chunks(self, stream: BinaryIO) -> Iterator[bytes]:
        """The stream without blanks at its start, which are counted, not parsed."""
        is_start = True
        while True:
            try:
                chunk = stream.read(_CHUNK)
            except (OSError, ValueError, EOFError) as error:
                raise self.refused(f"it cannot be read ({error})", hint=_AGAIN) from error
            if not chunk:
                return
            if is_start:
                rest = chunk.lstrip(_BLANK)
                self.skipped_lines += chunk[: len(chunk) - len(rest)].count(b"\n")
                chunk, is_start = rest, not rest
            if chunk:
                yield chunk

    def line(self) -> int:
        return self.parser.CurrentLineNumber + self.skipped_lines

    def refused(self, what: str, *, rule: str = "F001", hint: str = "") -> EnvelopeRefused:
        return EnvelopeRefused(
            f"{what}.",
            source=self.source,
            rule=rule,
            line=self.line(),
            hint=hint or "Do not trust the message; ask the sender what it is.",
        )

    # ── expat's events ──

    def refuse_doctype(self, *_: object) -> None:
        raise self.refused("it declares a document type or entities, which aseXML never does")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self.path) >= self.limits.depth:
            raise self.refused(f"its elements lie more than {self.limits.depth} deep (depth)")
        if len(attributes) > self.limits.attributes:
            raise self.refused(
                f"an element has more than {self.limits.attributes} attributes (attributes)"
            )
        self.elements += 1
        if self.elements > self.limits.elements:
            raise self.refused(f"it has more than {self.limits.elements:,} elements (elements)")
        if self.payload is not None:
            raise self.refused(f"an element <{one_line(tag)}> stands inside the meter data")
        name = tag.rpartition(":")[2]
        self.path.append(name)
        if len(self.path) == 1:
            self.start_root(tag, name, attributes)
        elif self.path[1] == "Header":
            if name in _HEADER and len(self.path) == 3:
                self.fact = (3, self.header, _HEADER[name])
        elif name in _ACKNOWLEDGEMENTS:
            self.acknowledgements.append(_acknowledgement(name, attributes))
        elif name == "Transaction" and self.transaction is None:
            self.transaction = {
                "transaction_id": attributes.get("transactionID"),
                "transaction_date": attributes.get("transactionDate"),
                "initiating_transaction_id": attributes.get("initiatingTransactionID"),
            }
            self.transactions.append(self.transaction)
        elif self.transaction is not None:
            self.start_inside_transaction(name, attributes, self.transaction)
        count = len(self.transactions) + len(self.payloads) + len(self.acknowledgements)
        if count > self.limits.transactions:
            raise self.refused(
                f"it has more than {self.limits.transactions:,} transactions (transactions)"
            )

    def start_root(self, tag: str, name: str, attributes: dict[str, str]) -> None:
        if name != "aseXML":
            page = "a web page, perhaps an error page," if name.lower() == "html" else "XML,"
            raise self.refused(
                f"it is {page} not an aseXML message: it starts with <{one_line(tag)}>",
                rule="F018",
                hint="Ask the sender for the message as it was sent.",
            )
        prefix = tag.rpartition(":")[0]
        namespace = attributes.get(f"xmlns:{prefix}" if prefix else "xmlns", "")
        release = re.fullmatch(r"urn:aseXML:(r\d{1,4})", namespace, re.IGNORECASE | re.ASCII)
        self.header["release"] = release[1].lower() if release else None

    def start_inside_transaction(
        self, name: str, attributes: dict[str, str], transaction: dict[str, Any]
    ) -> None:
        if "transaction" not in transaction:
            transaction |= {"transaction": name, "version": attributes.get("version")}
        if name in _PAYLOADS:
            self.payload, self.payload_line = bytearray(), self.line()
            self.parser.buffer_text = False  # so that the first piece of text knows its line
        elif name == "Role" and self.path[-2] == "ParticipantRole":
            self.fact = (len(self.path), transaction, "role")
        elif name == "RecordCount":
            self.fact = (len(self.path), transaction, "record_count")

    def characters(self, text: str) -> None:
        if self.payload is not None:
            if not self.payload:
                self.payload_line = self.line()
                self.parser.buffer_text = True
            data = text.encode()
            self.payload += data
            self.text_bytes += len(data)
        else:
            self.text_bytes += len(text)
            if self.fact is not None:
                self.fact_text += text
        if self.text_bytes > self.limits.text_bytes:
            raise self.refused(
                f"it holds more than {self.limits.text_bytes:,} bytes of text (text_bytes)",
                hint="Have it sent in several messages, or raise the limit.",
            )
        if len(self.fact_text) > _FACT_CHARACTERS:
            raise self.refused(f"its {self.path[-1]} is longer than any honest one")

    def end(self, _tag: str) -> None:
        name = self.path.pop()
        if self.payload is not None:
            self.end_payload(self.payload, _PAYLOADS[name])
        elif self.fact is not None and self.fact[0] == len(self.path) + 1:
            _, facts, key = self.fact
            text = self.fact_text.strip()
            facts.setdefault(key, _number(text) if key == "record_count" else text or None)
            self.fact, self.fact_text = None, ""
        elif name == "Transaction" and "Transaction" not in self.path:
            self.transaction = None

    def end_payload(self, text: bytearray, kind: _Kind) -> None:
        leading = len(text) - len(text.lstrip(_BLANK))
        line = self.payload_line + text.count(b"\n", 0, leading)
        del text[:leading]
        transaction = self.transaction if self.transaction is not None else {}
        transaction.setdefault("kind", kind)
        self.payloads.append((transaction, kind, bytes(text.rstrip(_BLANK)), line))
        self.payload = None
        self.parser.buffer_text = True


def _acknowledgement(name: str, attributes: dict[str, str]) -> Acknowledgement:
    transaction_id = attributes.get("initiatingTransactionID")
    return Acknowledgement(
        kind=_ACKNOWLEDGEMENTS[name],
        initiating_id=transaction_id or attributes.get("initiatingMessageID"),
        status=attributes.get("status"),
        duplicate=attributes.get("duplicate") == "Yes",
        receipt_id=attributes.get("receiptID"),
        receipt_date=attributes.get("receiptDate"),
        accepted_count=_number(attributes.get("acceptedCount", "")),
    )


def _contents(message: Message) -> str:
    """What a message without meter data carries, for people."""
    if message.acknowledgements:
        first = message.acknowledgements[0]
        return (
            f"it is an acknowledgement ({first.status or 'no status'} for {first.kind} "
            f"{one_line(first.initiating_id or 'without id')})"
        )
    names = sorted({one.transaction or "an empty Transaction" for one in message.transactions})
    if not names:
        return "it has no transactions"
    return (
        f"it holds {one_line(', '.join(names), 200)} without CSVIntervalData or CSVConsumptionData"
    )


def _complaint(code: int) -> str:
    text = expat.ErrorString(code)
    if code in _CUT_SHORT:
        return f"the message ends before its end ({text})"
    return f"it is not well-formed XML ({text})"


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def one_line(text: str, length: int = 60) -> str:
    """Text made one line, legal in XML, and not longer than ``length``."""
    text = " ".join(NOT_XML.sub("?", text).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."
