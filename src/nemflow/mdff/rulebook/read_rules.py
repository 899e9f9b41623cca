"""Series B and A: service orders around a read, and register reads.

Why: NEM13 and the 500 and 550 records have rules of their own.
Promises: each B and A rule of the catalogue is here, in order of its number.
Where next: ``nemflow.mdff.rules``; the fields are in ``nemflow.mdff.layout``.
"""

from __future__ import annotations

from nemflow.mdff.rulebook.model import Rule, Variant

SERVICE_RULES: tuple[Rule, ...] = (
    Rule(
        id="B001",
        title="TransCode is unknown",
        b2b="W",
        portal="W",
        record="500, 550",
        spec="MDFF App. A",
        expected="A, C, D, E, G, N, O, R or S",
        todo="Nothing; the letter is kept as given.",
        example="500,X,SO12345,20250305102030,001234.5",
    ),
    Rule(
        id="B002",
        title="ReadDateTime or IndexRead is malformed",
        b2b="W",
        portal="W",
        record="500",
        spec="MDFF §4.6",
        expected="a ReadDateTime of 14 digits (CCYYMMDDhhmmss) that exists, and an IndexRead as on "
        "the display: up to 15 digits with at most one decimal point",
        todo="Nothing; the read is kept as text, a malformed time is left empty, an ISO one is "
        "read.",
        example="500,N,SO12345,20250305 1020,1234 kWh",
        deviations=("D14",),
    ),
    Rule(
        id="B003",
        title="500 or 550 without 5 fields",
        b2b="W",
        portal="W",
        record="500, 550",
        spec="MDFF §4.6, §5.4",
        expected="5 fields, empty ones with their comma",
        todo="Nothing; what is missing at the end is read as empty.",
        example="500,N,SO12345",
    ),
)

ACCUMULATION_RULES: tuple[Rule, ...] = (
    Rule(
        id="A001",
        title="250 without 23 fields",
        b2b="D",
        portal="D",
        record="250",
        spec="MDFF §5.3",
        expected="23 fields, empty ones with their comma",
        todo="Ask the sender for the whole record; fields are never shifted.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,000100,20250101000001,A,,,100,kWh",
    ),
    Rule(
        id="A002",
        title="Previous read is after the current one",
        b2b="D",
        portal="D",
        record="250",
        spec="MDFF §5.3",
        expected="a PreviousRegisterReadDateTime not after the CurrentRegisterReadDateTime",
        todo="Ask the sender for the record; the two reads may be swapped.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,000100,20250401000001,A,,,000200,"
        "20250101000001,A,,,100,kWh,20250701,20250402010000,",
    ),
    Rule(
        id="A003",
        title="Quality not allowed on a register read",
        b2b="D",
        portal="D",
        record="250",
        spec="MDFF §5.3, App. C",
        expected="A, S or F on the previous read and A, E, S or F on the current one; never V",
        todo="Ask the sender for the record: a period starts from a read that was made or "
        "substituted, never from an estimate.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,000100,20250101000001,E64,,,000200,"
        "20250401000001,A,,,100,kWh,20250701,20250402010000,",
    ),
    Rule(
        id="A004",
        title="Quantity is negative or missing",
        b2b="D",
        portal="W",
        record="250",
        spec="MDFF §5.3",
        expected="a Quantity of 0 or more",
        todo="Ask the sender for the record. Old files write generation registers (I) with a minus "
        "sign.",
        example="250,SASMPL0123,41,1,41,41,EX0000123,I,000200,20250101000001,A,,,000100,"
        "20250401000001,A,,,-100,kWh,20250701,20250402010000,",
        deviations=("D22",),
        variants=(Variant("missing", "it is missing or not a plain number", "D", "D"),),
    ),
    Rule(
        id="A005",
        title="Quantity does not follow from the reads",
        b2b="W",
        portal="W",
        record="250",
        spec="MDFF §5.3",
        expected="a Quantity in the same ratio to current minus previous read as in the register's "
        "other periods (the multiplier is not in the file)",
        todo="Look for a meter exchange or a register that rolled over; else ask the sender.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,000100,20250101000001,A,,,000200,"
        "20250401000001,A,,,7000,kWh,20250701,20250402010000,",
    ),
    Rule(
        id="A006",
        title="DirectionIndicator is neither E nor I",
        b2b="D",
        portal="W",
        record="250",
        spec="MDFF §5.3",
        expected="E (grid to customer) or I (customer to grid)",
        todo="Check the direction with the sender; the letter is kept as given.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,B,000100,20250101000001,A,,,000200,"
        "20250401000001,A,,,100,kWh,20250701,20250402010000,",
        deviations=("D36",),
    ),
    Rule(
        id="A007",
        title="Time of an estimated read is unusual",
        b2b="W",
        portal="W",
        record="250",
        spec="MDFF §5.3",
        expected="time 000000 and a date not before the NextScheduledReadDate, for an estimate",
        todo="Nothing; the time is kept as given.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,000100,20250101000001,A,,,000200,"
        "20250401101500,E65,77,,100,kWh,20250701,20250402010000,",
    ),
    Rule(
        id="A008",
        title="Time of a register read is malformed",
        b2b="D",
        portal="D",
        record="250",
        spec="MDFF §5.3",
        expected="14 digits (CCYYMMDDhhmmss) of a time that exists, 000001 when the hour is "
        "unknown",
        todo="Ask the sender for the record; a read without its time belongs to no period.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,000100,20250101,A,,,000200,"
        "20250401000001,A,,,100,kWh,20250701,20250402010000,",
        deviations=("D13", "D14", "D41"),
        variants=(
            Variant("readable", "it is an ISO stamp, or has 12 digits, and can be read", "W", "W"),
        ),
    ),
    Rule(
        id="A009",
        title="Previous read differs from the read before",
        b2b="W",
        portal="W",
        record="250",
        spec="MDFF App. J",
        expected="a previous read equal to the current read of the register's period before",
        todo="Wait for, or ask for, the period before: a read that was issued anew changes two "
        "periods.",
        example="250,…,000100,20250101000001,A,,,000200,20250401000001,A,,,100,kWh,…\n"
        "250,…,000190,20250401000001,S62,45,,000300,20250701000001,A,,,110,kWh,…",
    ),
    Rule(
        id="A010",
        title="Same period twice in one file",
        b2b="D",
        portal="D",
        record="250",
        spec="nemflow (the MDFF is silent)",
        expected="one 250 for each NMI, suffix, register, serial and previous read time, or "
        "several that differ in UpdateDateTime",
        todo="Ask the sender which one holds. Both are kept out, because nothing in the file "
        "decides.",
        example="250,…,000200,20250401000001,A,,,100,kWh,20250701,20250402010000,\n"
        "250,…,000300,20250401000001,A,,,200,kWh,20250701,20250402010000,",
        deviations=("D32",),
        variants=(
            Variant("same_content", "both have the same content; one claim is made", "W", "W"),
            Variant("versions", "the UpdateDateTimes differ; both are ordinary versions", "-", "-"),
        ),
    ),
    Rule(
        id="A011",
        title="Register read is not a number",
        b2b="W",
        portal="W",
        record="250",
        spec="MDFF §5.3",
        expected="a read as on the display: up to 15 digits with at most one decimal point",
        todo="Nothing; the read is kept as text, and the Quantity is what counts.",
        example="250,SASMPL0123,11,1,11,11,EX0000123,E,0001OO,20250101000001,A,,,000200,"
        "20250401000001,A,,,100,kWh,20250701,20250402010000,",
    ),
)
