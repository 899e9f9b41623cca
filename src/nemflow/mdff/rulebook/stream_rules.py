"""Series N: the NMI and its data stream, on the 200 and the 250.

Why: these rules decide whose data it is, in which direction, unit and interval length.
Promises: each N rule of the catalogue is here, in order of its number.
Where next: ``nemflow.mdff.rules``; suffixes and units are in ``nemflow.mdff.codes``.
"""

from __future__ import annotations

from nemflow.mdff.rulebook.model import Rule, Variant

STREAM_RULES: tuple[Rule, ...] = (
    Rule(
        id="N001",
        title="NMI is malformed",
        b2b="D",
        portal="W",
        record="200, 250",
        spec="MDFF §4.3, §5.3; NMI Procedure",
        expected="10 characters, digits and capital letters without I and O",
        todo="Check the NMI with the sender. Masked and test NMIs are loaded under portal as they "
        "are.",
        example="200,SAMPLE123,E1,1,E1,N1,EX0000123,kWh,30,",
    ),
    Rule(
        id="N002",
        title="NMI is not ours",
        b2b="D",
        portal="W",
        record="200, 250",
        spec="nemflow",
        expected="an NMI of the list in the settings",
        todo="Check whether the data reached the right participant; if so, add the NMI to the list "
        "under [participant].",
        example="200,SASMPL0777,E1,1,E1,N1,EX0000123,kWh,30,",
        needs="[participant]",
    ),
    Rule(
        id="N003",
        title="NMIConfiguration is wrong",
        b2b="D",
        portal="W",
        record="200, 250",
        spec="MDFF §4.3, §5.3",
        expected="all suffixes of the NMI strung together, two characters each, this record's "
        "suffix among them",
        todo="Check with the sender which data streams the site has.",
        example="200,SASMPL0123,E2,1,E1,N1,EX0000123,kWh,30,",
        deviations=("D25",),
    ),
    Rule(
        id="N004",
        title="NMISuffix is not a data stream",
        b2b="D",
        portal="D",
        record="200, 250",
        spec="MDFF §4.3, §5.3; NMI Procedure",
        expected="two characters: in NEM12 a letter other than I and O, in NEM13 a digit 1 to 9, "
        "then 1 to 9 or a letter other than I and O",
        todo="Ask the sender for the data stream; without it direction and quantity are unknown.",
        example="200,SASMPL0123,I1,1,I1,N1,EX0000123,kWh,30,",
    ),
    Rule(
        id="N005",
        title="Unit is unknown",
        b2b="D",
        portal="D",
        record="200, 250",
        spec="MDFF App. B",
        expected="a unit of the list (Wh, kWh, MWh, VArh, kVArh, MVArh, VAr, kVAr, MVAr, W, kW, "
        "MW, VAh, kVAh, MVAh, VA, kVA, MVA, V, kV, A, kA, pf), in any case",
        todo="Ask the sender for the unit; it is never guessed.",
        example="200,SASMPL0123,E1,1,E1,N1,EX0000123,kW/h,30,",
        deviations=("D23",),
    ),
    Rule(
        id="N006",
        title="Unit does not fit the suffix",
        b2b="W",
        portal="W",
        record="200, 250",
        spec="NMI Procedure; nemflow",
        expected="watt-hours on A to F and N, var-hours on J to L, P to R and X, "
        "volt-ampere-hours on S to U, pf on G, volts or amps on V and Z",
        todo="Check unit and suffix with the sender; the values are kept in the unit given.",
        example="200,SASMPL0123,E1Q1,1,Q1,N1,EX0000123,kWh,30,",
    ),
    Rule(
        id="N007",
        title="IntervalLength is not 5, 15 or 30",
        b2b="D",
        portal="D",
        record="200",
        spec="MDFF §4.3",
        expected="an IntervalLength of 5, 15 or 30 minutes",
        todo="Ask the sender for the data in one of these lengths.",
        example="200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,60,",
        deviations=("D20",),
        variants=(Variant("leading_zero", "it is written 05", "W", "W"),),
    ),
    Rule(
        id="N008",
        title="RegisterID, data stream or serial missing",
        b2b="W",
        portal="-",
        record="200, 250",
        spec="MDFF §4.3, §5.3",
        expected="RegisterID, MDMDataStreamIdentifier and MeterSerialNumber as in MSATS, where "
        "they are mandatory",
        todo="Nothing, if the site is one for which they may be empty (types 1 to 3 and 7, data "
        "between MDPs); else ask the sender.",
        example="200,SASMPL0123,E1,,E1,,,kWh,30,",
        deviations=("D24", "D26"),
    ),
    Rule(
        id="N009",
        title="A suffix of the NMI is missing on this day",
        b2b="W",
        portal="-",
        record="200",
        spec="MDFF §2(c)",
        expected="every suffix of the NMIConfiguration, for each day, in the same 100…900",
        todo="Look for the missing data stream in another file, or ask the sender for it. Stored "
        "data of that stream is not deleted.",
        example="200,SASMPL0123,B1E1,1,E1,N1,EX0000123,kWh,30,\n300,20250305,0.227,…\n900",
    ),
    Rule(
        id="N010",
        title="200 with fewer than 10 fields",
        b2b="D",
        portal="W",
        record="200",
        spec="MDFF §3.3.1(c), §4.3",
        expected="10 fields, empty ones with their comma",
        todo="Nothing under portal; what is missing at the end is read as empty. Under b2b ask the "
        "sender for a whole record.",
        example="200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30",
        deviations=("D08",),
    ),
    Rule(
        id="N011",
        title="NMI in lower case, or with its check digit",
        b2b="W",
        portal="W",
        record="200, 250",
        spec="MDFF §4.3, §5.3",
        expected="the 10 characters of the NMI in capitals, without the check digit",
        todo="Nothing; letters are raised to capitals, and a right check digit is cut off.",
        example="200,SASMPL01231,E1,1,E1,N1,EX0000123,kWh,30,",
        deviations=("D34",),
    ),
    Rule(
        id="N012",
        title="NMI with a wrong check digit",
        b2b="D",
        portal="D",
        record="200, 250",
        spec="NMI Procedure",
        expected="10 characters, or 11 of which the last is the right check digit",
        todo="Find the right NMI with the sender; nemflow nmi prints the right check digit. Nothing "
        "is cut off, because any of the characters may be the wrong one.",
        example="200,SASMPL01239,E1,1,E1,N1,EX0000123,kWh,30,",
        deviations=("D34",),
    ),
    Rule(
        id="N013",
        title="Text longer than allowed",
        b2b="W",
        portal="W",
        record="200, 250",
        spec="MDFF §4.3, §5.3",
        expected="NMIConfiguration up to 240 characters, RegisterID up to 10, "
        "MDMDataStreamIdentifier 2, MeterSerialNumber up to 12, register reads up to 15",
        todo="Nothing; the text is kept whole.",
        example="200,SASMPL0123,E1,1,E1,N1,EX-00001234567890,kWh,30,",
        deviations=("D26",),
    ),
    Rule(
        id="N014",
        title="NextScheduledReadDate is malformed",
        b2b="W",
        portal="W",
        record="200, 250",
        spec="MDFF §4.3, §5.3",
        expected="8 digits (CCYYMMDD) of a date that exists, or nothing",
        todo="Nothing; the date is left empty. MSATS has the date that counts.",
        example="200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,20250431",
        deviations=("D14", "D41"),
    ),
    Rule(
        id="N015",
        title="200 without a 300",
        b2b="W",
        portal="W",
        record="200",
        spec="MDFF §4.1",
        expected="at least one 300 under each 200",
        todo="Ask the sender if you expected data for this data stream.",
        example="200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,\n900",
    ),
)
