"""aseXML in and out: meter data found whatever the spelling, hostile XML refused, answers exact."""

from __future__ import annotations

import io
import os
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemflow.errors import EnvelopeRefused, UsageError
from nemflow.mdff import acknowledgements as answers
from nemflow.mdff.acknowledgements import (
    EVENT_CODES,
    EVENT_TEXTS,
    Event,
    events_of,
    message_acknowledgement,
    status_of,
    transaction_acknowledgement,
)
from nemflow.mdff.asexml import Envelope, XmlLimits, read_message

DAY = "100,NEM12,202503060215,MDPEXMPL,RETEXMPL\n200,SASMPL0123,E1,1,E1,N1,EX1,kWh,30,\n900"
HEADER = """  <Header>
    <From description="A provider">MDPEXMPL</From>
    <To>RETEXMPL</To>
    <MessageID>MDPEXMPL-MSG-20250306-000042</MessageID>
    <MessageDate>2025-03-06T02:15:09.000+10:00</MessageDate>
    <TransactionGroup>MTRD</TransactionGroup>
    <Priority>Low</Priority>
    <Market>NEM</Market>
    <SecurityContext>KRK</SecurityContext>
  </Header>
"""
ROLE = "<ParticipantRole><Role>FRMP</Role></ParticipantRole>"


def transaction(inner: str, number: int = 977, extra: str = "") -> str:
    """A MeterDataNotification with this content."""
    return f"""    <Transaction transactionID="MDPEXMPL-TNS-{number}"
        transactionDate="2025-03-06T02:15:09.000+10:00"{extra}>
      <MeterDataNotification version="r25">
        {inner}
      </MeterDataNotification>
    </Transaction>
"""


def message(*transactions: str, release: str = "r43", header: str = HEADER) -> str:
    """A whole message."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ase:aseXML xmlns:ase="urn:aseXML:{release}"
            xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
            xsi:schemaLocation="urn:aseXML:{release} aseXML_{release}.xsd">
{header}  <Transactions>
{"".join(transactions)}  </Transactions>
</ase:aseXML>
"""


def csv(text: str) -> str:
    """The NEM12 payload element."""
    return f"<CSVIntervalData>{text}</CSVIntervalData>"


def refusal(xml: str | bytes, **limits) -> EnvelopeRefused:
    """The error the message gives."""
    data = xml.encode() if isinstance(xml, str) else xml
    with pytest.raises(EnvelopeRefused) as caught:
        read_message(data, source="in.xml", limits=XmlLimits(**limits))
    error = caught.value
    assert error.source == "in.xml"
    assert error.line is None or error.line > 0
    assert error.hint, "a refusal says what to do"
    return error


# ── in ────────────────────────────────────────────────────────────────────────────────────


def test_the_envelope_and_its_payload_are_read():
    """Every fact of the header and the transaction is kept, and the payload to the byte."""
    inner = f"<RecordCount>3</RecordCount>{csv(DAY + chr(10))}{ROLE}"
    read = read_message(message(transaction(inner)).encode(), source="in.xml")
    (payload,) = read.payloads
    assert payload.text == DAY.encode()
    assert payload.envelope == Envelope(
        message_id="MDPEXMPL-MSG-20250306-000042",
        message_date="2025-03-06T02:15:09.000+10:00",
        sender="MDPEXMPL",
        receiver="RETEXMPL",
        transaction_group="MTRD",
        priority="Low",
        market="NEM",
        security_context="KRK",
        release="r43",
        transaction_id="MDPEXMPL-TNS-977",
        transaction_date="2025-03-06T02:15:09.000+10:00",
        transaction="MeterDataNotification",
        version="r25",
        kind="NEM12",
        role="FRMP",
        record_count=3,
    )
    assert read.transactions == [payload.envelope]
    assert read.header.message_id == "MDPEXMPL-MSG-20250306-000042"
    assert read.header.transaction_id is None


@pytest.mark.parametrize(
    "text",
    [
        DAY,
        f"\n{DAY}\n",
        f"\n\n \t  {DAY}  \n\n",
        f"<![CDATA[{DAY}]]>",
        f"\n <![CDATA[\n\n{DAY}\n]]>\n",
        f"<!-- note\n -->\n{DAY}<?note?>",
        DAY.replace("\n", "\r\n"),
        f"\r\n{DAY}".replace("\n", "\r\n").replace("\r\r", "\r"),
        DAY.replace("NEM12", "NE&#77;12").replace("kWh", "<![CDATA[kWh]]>"),
        f"<![CDATA[{DAY[:50]}]]><![CDATA[{DAY[50:]}]]>",
    ],
)
def test_the_payload_may_be_wrapped_in_any_way(text):
    """CDATA, escapes, line ends and indents around the payload do not change it or its line."""
    xml = message(transaction(csv(text), extra="\n"))
    (payload,) = read_message(xml.encode()).payloads
    assert payload.text.decode() == DAY
    lines = xml.replace("\r\n", "\n").split("\n")
    assert "100,N" in lines[payload.first_line - 1]


def test_only_outer_blanks_are_trimmed():
    """What stands between the first and the last character is the sender's."""
    text = "100,NEM12\n\n  200, a &amp; b &lt;c&gt; \n 900"
    (payload,) = read_message(message(transaction(csv(f"\n {text} \n"))).encode()).payloads
    assert payload.text == b"100,NEM12\n\n  200, a & b <c> \n 900"


@pytest.mark.parametrize("number", range(25, 47))
def test_every_release_is_read(number):
    """The namespace's release is kept, not demanded."""
    read = read_message(message(transaction(csv(DAY)), release=f"r{number}").encode())
    assert read.header.release == f"r{number}"


@pytest.mark.parametrize("prefix", ["", "x:"])
def test_prefixes_do_not_matter(prefix):
    """Elements are known by their local name, with another prefix, a default one, or none."""
    declared = 'xmlns="urn:aseXML:r30"' if not prefix else 'xmlns:x="urn:aseXML:r30"'
    xml = (
        f"<{prefix}aseXML {declared}><{prefix}Transactions><{prefix}Transaction>"
        f"<{prefix}MeterDataNotification><{prefix}CSVIntervalData>100"
        f"</{prefix}CSVIntervalData></{prefix}MeterDataNotification></{prefix}Transaction>"
        f"</{prefix}Transactions></{prefix}aseXML>"
    )
    read = read_message(xml.encode())
    assert read.header.release == "r30"
    assert [one.text for one in read.payloads] == [b"100"]
    assert read_message(xml.replace(declared, "").encode()).header.release is None


def test_the_order_of_elements_does_not_matter():
    """A header behind the transactions, roles behind or before the payload: all the same."""
    first = read_message(message(transaction(csv(DAY) + ROLE)).encode())
    xml = message(transaction(ROLE + csv(DAY)), header="")
    second = read_message(xml.replace("</ase:aseXML>", f"{HEADER}</ase:aseXML>").encode())
    assert first.payloads[0].envelope == second.payloads[0].envelope


def test_several_transactions_keep_their_own_facts():
    """Each payload belongs to its transaction; one without meter data is listed too."""
    other = (
        '<Transaction transactionID="T3" initiatingTransactionID="ours">'
        '<NMIStandingDataResponse version="r4"/></Transaction>'
    )
    consumption = "<CSVConsumptionData>100,NEM13\n900</CSVConsumptionData>"
    xml = message(
        transaction(csv(DAY) + ROLE, 1),
        transaction(consumption, 2, ' initiatingTransactionID="asked"'),
        other,
        "<Transaction/>",
    )
    read = read_message(xml.encode())
    assert [(one.envelope.transaction_id, one.envelope.kind) for one in read.payloads] == [
        ("MDPEXMPL-TNS-1", "NEM12"),
        ("MDPEXMPL-TNS-2", "NEM13"),
    ]
    assert [one.envelope.role for one in read.payloads] == ["FRMP", None]
    assert [one.transaction for one in read.transactions] == [
        "MeterDataNotification", "MeterDataNotification", "NMIStandingDataResponse", None,
    ]  # fmt: skip
    assert [one.initiating_transaction_id for one in read.transactions] == [
        None, "asked", "ours", None,
    ]  # fmt: skip
    assert {one.message_id for one in read.transactions} == {"MDPEXMPL-MSG-20250306-000042"}


def test_two_payloads_in_one_transaction_are_both_read():
    """One kind per transaction is the rule; a sender that breaks it loses nothing."""
    inner = csv(DAY) + "<CSVConsumptionData>100,NEM13</CSVConsumptionData>"
    read = read_message(message(transaction(inner)).encode())
    assert [one.envelope.kind for one in read.payloads] == ["NEM12", "NEM13"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252"])
def test_encodings(encoding):
    """Payloads come out as UTF-8 whatever the message is written in."""
    text = f"{DAY}é"
    xml = message(transaction(csv(text))).replace("UTF-8", encoding.removesuffix("-sig"))
    (payload,) = read_message(xml.encode(encoding)).payloads
    assert payload.text == text.encode()


def test_blank_lines_before_the_xml_are_counted():
    """Some senders put a line end before the declaration; lines still point into the file."""
    xml = message(transaction(csv(DAY)))
    plain, late = read_message(xml.encode()), read_message(f"\r\n\n {xml}".encode())
    assert late.payloads[0].first_line == plain.payloads[0].first_line + 2


def test_a_stream_is_read_piece_by_piece():
    """However the stream cuts the bytes, the result is the same."""

    class Trickle(io.BytesIO):
        def read(self, _size=-1):
            return super().read(7)

    data = f"\n\n{message(transaction(csv(chr(10) + DAY)))}".encode()
    assert read_message(Trickle(data)).payloads == read_message(data).payloads


def test_one_text_node_of_many_megabytes_passes():
    """A message carries all its meter data in one element, with or without line ends."""
    text = b"100,NEM12\n" + b"0.125," * 2_100_000 + b"\n900"
    (payload,) = read_message(message(transaction(csv("@"))).encode().replace(b"@", text)).payloads
    assert len(text) > 12_000_000
    assert payload.text == text


# ── refused ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        (message("<Transaction><NMIStandingDataResponse/></Transaction>"), "NMIStandingDataRes"),
        (message(transaction(ROLE)), "MeterDataNotification without CSVIntervalData"),
        (message(transaction("<CSVProfileData>1</CSVProfileData>")), "without CSVIntervalData"),
        (message(), "no transactions"),
        (message("<Transaction/>"), "an empty Transaction"),
        ("<aseXML/>", "no transactions"),
        (
            '<aseXML><Acknowledgements><MessageAcknowledgement initiatingMessageID="M1" '
            'status="Reject"/></Acknowledgements></aseXML>',
            "it is an acknowledgement (Reject for message M1)",
        ),
        ("<html><body/></html>", "a web page"),
        ("<root><CSVIntervalData>100</CSVIntervalData></root>", "starts with <root>"),
    ],
)
def test_a_message_without_meter_data_says_what_it_is(xml, what):
    """The refusal names what the message carries instead, under F018."""
    error = refusal(xml)
    assert what in error.message
    assert error.rule == "F018"


def test_other_messages_are_read_when_asked_for():
    """Without need_payload acknowledgements and other transactions come back as facts."""
    xml = (
        '<aseXML><Acknowledgements><TransactionAcknowledgement initiatingTransactionID="T1" '
        'receiptID="R" receiptDate="2025" status="Partial" duplicate="Yes" acceptedCount="4"/>'
        "</Acknowledgements></aseXML>"
    )
    (one,) = read_message(xml.encode(), need_payload=False).acknowledgements
    assert (one.kind, one.initiating_id, one.status, one.duplicate) == (
        "transaction", "T1", "Partial", True,
    )  # fmt: skip
    assert (one.receipt_id, one.receipt_date, one.accepted_count) == ("R", "2025", 4)


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("doctype", "use"),
    [
        (BOMB, "&b;"),
        ('<!DOCTYPE a [<!ENTITY a SYSTEM "secret.txt">]>', "&a;"),
        ('<!DOCTYPE a SYSTEM "http://example.invalid/a.dtd">', ""),
        ('<!DOCTYPE a [<!ENTITY % p SYSTEM "http://example.invalid/"> %p;]>', ""),
        ("<!DOCTYPE ase:aseXML>", ""),
    ],
)
def test_document_types_and_entities_are_refused(doctype, use):
    """No DTD, no entity, no fetch: aseXML needs none."""
    xml = message(transaction(csv(DAY + use))).replace("<ase:aseXML", f"{doctype}<ase:aseXML", 1)
    assert "document type" in refusal(xml).message
    assert "undefined entity" in refusal(message(transaction(csv("&b;")))).message


@pytest.mark.parametrize(("depth", "passes"), [(49, True), (50, True), (51, False)])
def test_depth_limit(depth, passes):
    """50 elements inside each other, not 51."""
    xml = "<aseXML>" + "<a>" * (depth - 1) + "</a>" * (depth - 1) + "</aseXML>"
    assert ("depth" in refusal(xml).message) is not passes


@pytest.mark.parametrize(("count", "passes"), [(63, True), (64, True), (65, False)])
def test_attribute_limit(count, passes):
    """64 attributes on one element, not 65."""
    names = " ".join(f'a{number}=""' for number in range(count))
    assert ("attributes" in refusal(f"<aseXML><a {names}/></aseXML>").message) is not passes


@pytest.mark.parametrize(("spare", "passes"), [(1, True), (0, True), (-1, False)])
def test_text_limit(spare, passes):
    """All text of the message counts, in and around the payload, escaped or not."""
    xml = f"<aseXML> <Transaction>&#32;é{csv('é' * 20)}</Transaction></aseXML>".encode()
    text = 1 + 2 + 40
    if passes:
        assert read_message(xml, limits=XmlLimits(text_bytes=text + spare)).payloads
    else:
        assert "text_bytes" in refusal(xml, text_bytes=text + spare).message


@pytest.mark.parametrize(("count", "passes"), [(8, True), (9, True), (10, False)])
def test_element_and_transaction_limits(count, passes):
    """Messages of endless tiny elements or transactions are cut."""
    xml = "<aseXML>" + "<a/>" * (count - 1) + "</aseXML>"
    assert ("(elements)" in refusal(xml, elements=9).message) is not passes
    xml = "<aseXML>" + "<Transaction/>" * count + "</aseXML>"
    assert ("(transactions)" in refusal(xml, transactions=9).message) is not passes


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        (message(transaction(csv(DAY)))[:-400], "ends before its end"),
        (message(transaction(csv(DAY)))[:-3], "ends before its end"),
        (message(transaction(csv(f"<![CDATA[{DAY}")))[:700], "ends before its end"),
        (message(transaction(csv(DAY))).replace("</To>", "</Too>"), "mismatched tag"),
        (message(transaction(csv(DAY))) + "more", "not well-formed"),
        (message(transaction(csv("100\0"))), "not well-formed"),
        (message(transaction(csv("100<b/>"))), "<b> stands inside the meter data"),
        (message().encode() + b"\xff", "not well-formed"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "encoding cannot be read"),
        ('<?xml version="1.0" encoding="shift_jis"?><a/>', "encoding cannot be read"),
        ('<?xml version="1.0" encoding="idna"?><a/>', "encoding cannot be read"),
        ("100,NEM12", "not well-formed"),
        ("<aseXML " + "a" * 5_000_000, "no end"),
        ("<aseXML><!--" + "a" * 5_000_000, "no end"),
        (message(header=f"<Header><From>{'x' * 5000}</From></Header>"), "its From is longer"),
    ],
)
def test_a_broken_message_is_refused(xml, what):
    """Broken XML is refused with its place and what to do."""
    error = refusal(xml)
    assert what in error.message
    assert error.rule == "F001"


def test_a_refusal_points_at_its_line():
    """The line is that of the file, blank lines before it included."""
    xml = "\n\n<aseXML>\n<a>\n<b>\n</a></b></aseXML>"
    assert refusal(xml).line == 6


def test_a_stream_that_breaks_is_refused():
    """An error of the stream is a refusal of the message."""

    class Broken(io.BytesIO):
        def read(self, _size=-1):
            raise OSError("gone")

    with pytest.raises(EnvelopeRefused, match="gone"):
        read_message(Broken())


WHOLE = message(transaction(csv(DAY) + ROLE), transaction(csv(f"<![CDATA[{DAY}]]>")))


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 3), st.binary(max_size=4)), max_size=5
    ),
    cut=st.integers(0, 300),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le"]),
)
def test_no_damage_raises_anything_else(edits, cut, encoding):
    """However a message is damaged, it is read or refused."""
    data = bytearray(WHOLE.encode(encoding))
    for place, length, new in edits:
        at = place % len(data)
        data[at : at + length] = new
    try_to_read(bytes(data[: len(data) - cut]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<aseXML>", "</aseXML>", "<Header>", "</Header>", "<From>", "</From>", "<Transaction>",
             "</Transaction>", "<Role>", "</Role>", "<RecordCount>", "</RecordCount>", "1", "é",
             "<ParticipantRole>", "</ParticipantRole>", "<CSVIntervalData>", "</CSVIntervalData>",
             "<MessageAcknowledgement/>", "<![CDATA[", "]]>", "&amp;", "\n", "<!DOCTYPE a>",
             "<?p?>"]
        ),
        max_size=30,
    )
)  # fmt: skip
def test_no_order_of_elements_raises_anything_else(pieces):
    """Elements in any nesting are read or refused."""
    try_to_read("".join(pieces).encode())
    try_to_read(f"<aseXML>{''.join(pieces)}</aseXML>".encode())


def try_to_read(data: bytes) -> None:
    """Read it, or be refused."""
    try:
        read = read_message(data, need_payload=False)
    except EnvelopeRefused:
        return
    assert all(one.first_line > 0 for one in read.payloads)


def test_every_limit_is_documented_with_its_default():
    """The page on aseXML lists each limit and what it is."""
    page = (Path(__file__).parents[2] / "docs" / "asexml.md").read_text(encoding="utf-8")
    for limit in fields(XmlLimits):
        assert f"| `{limit.name}` | {limit.default:,} |" in page


# ── samples ───────────────────────────────────────────────────────────────────────────────


def samples() -> Path:
    """The folder of real files, or a skip that says it is not there."""
    beside = Path(__file__).parents[3] / "shared" / "samples"
    folder = Path(os.environ.get("NEMFLOW_SAMPLES", beside))
    if not folder.is_dir():
        pytest.skip(f"real files are not here ({folder}); set NEMFLOW_SAMPLES")
    return folder


def test_a_real_message_is_read():
    """A provider's message of 2024: one payload, starting on the line of its element."""
    path = samples() / "jarshwah+nem12-generator" / "001-mtrd-example.xml"
    with path.open("rb") as handle:
        (payload,) = read_message(handle, source=path.name).payloads
    facts = payload.envelope
    assert (facts.sender, facts.receiver, facts.release) == ("ACTIVMDP", "POWERCOR", "r43")
    assert (facts.transaction_id, facts.role) == ("ACTIVMDP-TNS-N40610740", "FRMP")
    lines = payload.text.split(b"\n")
    assert len(lines) == 11
    assert lines[0].startswith(b"100,NEM12")
    assert lines[-1] == b"900"
    xml_lines = path.read_bytes().split(b"\n")
    assert xml_lines[payload.first_line - 1].endswith(lines[0])
    assert xml_lines[payload.first_line + 9] == b"900"


def test_a_real_message_of_standing_data_is_refused():
    """Standing data is not meter data, and the refusal says so."""
    path = samples() / "jufemaiz+aemo" / "001-nmi_details.xml"
    assert "NMIStandingDataResponse" in refusal(path.read_bytes()).message


# ── out ───────────────────────────────────────────────────────────────────────────────────

AT = datetime(2025, 3, 5, 16, 16, 40, tzinfo=UTC)
ENVELOPE = read_message(message(transaction(csv(DAY))).encode()).payloads[0].envelope
EVENT = Event(
    202, "400 records do not cover intervals 33 to 48", "Error", "Application", "SASMPL0123", "E1"
)


def parsed(xml: bytes) -> ET.Element:
    """Our own output, read by another parser."""
    return ET.fromstring(xml)  # noqa: S314 (written by us)


def test_a_message_acknowledgement_matches_the_format():
    """The whole document, byte for byte."""
    xml = message_acknowledgement(
        ENVELOPE, message_id="RETEXMPL-ACK-7", at=AT, receipt_id="RETEXMPL-R-311"
    )
    assert (
        xml.decode()
        == """<?xml version='1.0' encoding='UTF-8'?>
<ase:aseXML xmlns:ase="urn:aseXML:r43">
  <Header>
    <From>RETEXMPL</From>
    <To>MDPEXMPL</To>
    <MessageID>RETEXMPL-ACK-7</MessageID>
    <MessageDate>2025-03-06T02:16:40.000+10:00</MessageDate>
    <TransactionGroup>MSGS</TransactionGroup>
    <Priority>Low</Priority>
    <Market>NEM</Market>
  </Header>
  <Acknowledgements>
    <MessageAcknowledgement initiatingMessageID="MDPEXMPL-MSG-20250306-000042" \
receiptID="RETEXMPL-R-311" receiptDate="2025-03-06T02:16:40.000+10:00" status="Accept" \
duplicate="No" />
  </Acknowledgements>
</ase:aseXML>
"""
    )


def test_a_transaction_acknowledgement_matches_the_format():
    """Its own group, counts and events; our reader finds the same facts in it."""
    xml = transaction_acknowledgement(
        ENVELOPE, message_id="A1", at=AT, status="Partial", accepted_count=1, receipt_id="R1",
        duplicate=True, events=[EVENT],
    )  # fmt: skip
    root = parsed(xml)
    assert root.findtext("Header/TransactionGroup") == "MTRD"
    (answer,) = root.find("Acknowledgements")
    assert answer.tag == "TransactionAcknowledgement"
    assert answer.attrib == {
        "initiatingTransactionID": "MDPEXMPL-TNS-977",
        "receiptID": "R1",
        "receiptDate": "2025-03-06T02:16:40.000+10:00",
        "status": "Partial",
        "duplicate": "Yes",
        "acceptedCount": "1",
    }
    (event,) = answer
    assert event.attrib == {"class": "Application", "severity": "Error"}
    assert [(child.tag, child.text) for child in event] == [
        ("Code", "202"),
        ("KeyInfo", "SASMPL0123"),
        ("Context", "E1"),
        ("Explanation", "400 records do not cover intervals 33 to 48"),
    ]
    assert event.find("Code").get("description") == "Invalid data"
    read = read_message(xml, need_payload=False)
    assert (read.header.sender, read.header.receiver) == ("RETEXMPL", "MDPEXMPL")
    (one,) = read.acknowledgements
    assert (one.kind, one.status, one.accepted_count) == ("transaction", "Partial", 1)


def test_the_same_arguments_give_the_same_bytes():
    """Nothing is drawn from a clock or at random."""
    one, two = (
        transaction_acknowledgement(
            ENVELOPE, message_id="A", at=at, status="Reject", events=[EVENT]
        )
        for at in (AT, AT.astimezone(timezone(timedelta(hours=10))))
    )
    assert one == two


def test_a_rejection_promises_nothing():
    """The receipt id is a promise to process, so a Reject carries none."""
    for answer in (message_acknowledgement, transaction_acknowledgement):
        xml = answer(ENVELOPE, message_id="A", at=AT, status="Reject", receipt_id="R")
        assert b"receiptID" not in xml


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=90), st.text(max_size=1200))
def test_any_text_is_written_as_legal_xml(nmi, context, explanation):
    """Whatever stood in the file, the answer is well-formed and within the lengths."""
    event = Event(
        202, f"{explanation}<&\"'>\x00\ufffe\ud800", "Error", key_info=nmi, context=context
    )
    xml = transaction_acknowledgement(
        ENVELOPE, message_id="A", at=AT, status="Reject", events=[event]
    )
    (found,) = parsed(xml).iter("Event")
    assert len(found.findtext("Context", "")) <= 80
    assert len(found.findtext("Explanation", "")) <= 1000
    read_message(xml, need_payload=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"message_id": ""},
        {"message_id": "x" * 37},
        {"at": datetime(2025, 3, 6)},  # noqa: DTZ001 (what is refused)
        {"receipt_id": "x" * 37},
        {"status": "Partial"},
    ],
)
def test_an_answer_that_cannot_be_sent_is_a_usage_error(wrong):
    """Ids of 1 to 36 characters, a time with its zone, and no half-accepted message."""
    with pytest.raises(UsageError):
        message_acknowledgement(ENVELOPE, **{"message_id": "A", "at": AT} | wrong)


def test_a_message_without_id_cannot_be_answered():
    """Neither can a transaction, nor a message of an unknown sender."""
    nameless = Envelope(sender="A", receiver="B")
    with pytest.raises(UsageError, match="message id"):
        message_acknowledgement(nameless, message_id="A", at=AT)
    with pytest.raises(UsageError, match="transaction id"):
        transaction_acknowledgement(nameless, message_id="A", at=AT, status="Accept")
    with pytest.raises(UsageError, match="receiver id"):
        message_acknowledgement(Envelope(message_id="M"), message_id="A", at=AT)


@pytest.mark.parametrize(
    ("accepted", "rejected", "refused", "status"),
    [
        (5, 0, False, "Accept"),
        (0, 0, False, "Accept"),
        (5, 1, False, "Partial"),
        (0, 1, False, "Reject"),
        (5, 0, True, "Reject"),
        (0, 0, True, "Reject"),
    ],
)
def test_the_status_follows_from_the_counts(accepted, rejected, refused, status):
    """All: Accept; some: Partial; none, or the file refused as a whole: Reject."""
    assert status_of(accepted, rejected, refused=refused) == status


FINDINGS = pl.DataFrame(
    [
        ("a", 4, 1, "400", "Q008", "D", "400 records do not cover 33 to 48", "400,1,32,A,,"),
        ("a", None, None, None, "F006", "F", "no 900 at the end", None),
        ("a", 6, 1, "300", "I002", "D", "no such day", "300,20250231,1"),
        ("a", 2, 1, "200", "N005", "D", "unknown unit", "200,SASMPL0123,E1,1,E1,N1,EX1,foot,30,"),
        ("a", 3, 1, "300", "I006", "W", "too many decimals", "300,20250305,1"),
        ("a", 9, 2, "500", "B002", "W", "bad read", "500,O,,x,"),
        ("a", 5, 1, "500", "F001", "D", "whatever", "500,O,,x,"),
    ],
    schema={
        "source": pl.String, "line": pl.UInt32, "block": pl.UInt32, "record": pl.String,
        "rule": pl.String, "severity": pl.String, "message": pl.String, "raw": pl.String,
    },
    orient="row",
)  # fmt: skip
PLACES = pl.DataFrame(
    {
        "source": ["a", "a", "b"],
        "line": [3, 7, 1],
        "block": [1, 1, 2],
        "nmi": ["SASMPL0123", "OTHER", "WRONG"],
        "suffix": ["E1", "B1", "Q1"],
        "day": [date(2025, 3, 5), date(2025, 3, 6), date(2025, 3, 7)],
    },
    schema_overrides={"line": pl.UInt32, "block": pl.UInt32},
)


def test_findings_become_events_the_gravest_first():
    """Each names its NMI, suffix and day where they are known, and never a neighbour's."""
    events = events_of(FINDINGS, PLACES)
    assert [(one.severity, one.key_info, one.context) for one in events] == [
        ("Fatal", "", ""),
        ("Error", "SASMPL0123", "E1"),
        ("Error", "SASMPL0123", "E1 20250305"),
        ("Error", "SASMPL0123", "E1 20250305"),
        ("Error", "", "20250231"),
        ("Warning", "SASMPL0123", "E1 20250305"),
        ("Warning", "", ""),
    ]
    assert events[2].explanation == "Q008 line 4: 400 records do not cover 33 to 48"
    assert events[0].explanation == "F006: no 900 at the end"
    assert [one.code for one in events] == [202, 202, 202, 2, 202, 202, 202]
    shuffled = events_of(FINDINGS.sample(fraction=1, shuffle=True, seed=1), PLACES)
    assert shuffled == events


def test_events_without_places_tell_what_the_line_tells():
    """A 200 names its NMI itself; for the others the line number is the way."""
    known = {one.explanation[:4]: (one.key_info, one.context) for one in events_of(FINDINGS)}
    assert known["N005"] == ("SASMPL0123", "E1")
    assert known["I002"] == ("", "20250231")
    assert known["Q008"] == ("", "")


def test_warnings_can_be_left_out_and_events_are_bounded():
    """A flood of findings becomes a short answer that says how many are not in it."""
    assert {one.severity for one in events_of(FINDINGS, warnings=False)} == {"Fatal", "Error"}
    *first, last = events_of(FINDINGS, limit=2)
    assert len(first) == 2
    assert last == Event(202, "5 more findings are not listed.", "Information")
    assert len(events_of(FINDINGS, limit=7)) == 7
    assert events_of(FINDINGS.clear()) == []


def test_event_codes_are_one_table():
    """Changing an answer is changing the table; only verified codes are in it."""
    assert {*EVENT_CODES.values(), answers.OTHER_EVENT} <= EVENT_TEXTS.keys() == {0, 2, 202}
    events = events_of(FINDINGS, codes={"Q008": 1234})
    assert {one.code for one in events if "Q008" in one.explanation} == {1234}
    xml = transaction_acknowledgement(
        ENVELOPE, message_id="A", at=AT, status="Partial", events=events
    )
    severities = [event.get("severity") for event in parsed(xml).iter("Event")]
    assert len(severities) == 7
    assert None not in severities
