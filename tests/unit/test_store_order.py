"""Any order, any undo, any moment: the current readings depend on the data alone.

The store is compared with a reference model of a dozen lines.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemflow.mdff.reader import Parser, Text
from nemflow.pipeline import load, redo, undo
from nemflow.store import Store, open_store

NMI = "SASMPL0001"
DAYS = ("20250301", "20250302")
CONTENTS = (("1", 30), ("2", 30), ("0.5", 5))
STAMPS = ("", "20250303010000", "20250304010000")
FILE_TIMES = ("202503040000", "202503050000", "2025")  # the last is no time at all


@dataclass(frozen=True)
class Sent:
    """One file: when it says it was made, and what it says of each day."""

    file_at: str
    days: tuple[tuple[str, str, int], ...]  # day, stamp, content

    def text(self, number: int) -> bytes:
        """The file's bytes; the sender's name keeps equal files apart."""
        lines = [f"100,NEM12,{self.file_at},MDP{number},RETAILER"]
        for day, stamp, content in self.days:
            value, minutes = CONTENTS[content]
            values = ",".join([value] * (1440 // minutes))
            lines.append(f"200,{NMI},E1,1,E1,N1,METER1,kWh,{minutes},")
            lines.append(f"300,{day},{values},A,,,{stamp},")
        return "".join(f"{line}\r\n" for line in [*lines, "900"]).encode()


entries = st.tuples(
    st.sampled_from(DAYS), st.sampled_from(STAMPS), st.integers(0, len(CONTENTS) - 1)
)
files = st.builds(
    Sent,
    file_at=st.sampled_from(FILE_TIMES),
    days=st.lists(entries, min_size=1, max_size=2, unique_by=lambda e: (e[0], e[1])).map(tuple),
)


def hashes() -> dict[int, str]:
    """The content hash of each of CONTENTS."""
    texts = [
        Text(str(number), Sent("202503040000", ((DAYS[0], "", number),)).text(number))
        for number in range(len(CONTENTS))
    ]
    days = Parser().feed(texts).days
    return {int(source): found for source, found in days.select("source", "content_hash").rows()}


HASHES = hashes()


def model(standing: list[Sent]) -> dict[str, int]:
    """Who wins each day: the greatest (version_at, file_at, content_hash), nothing lowest."""
    best: dict[str, tuple[tuple[str, str, str], int]] = {}
    for sent in standing:
        file_at = sent.file_at + "00" if len(sent.file_at) == 12 else ""
        for day, stamp, content in sent.days:
            key = (stamp or file_at, file_at, HASHES[content])
            if day not in best or key > best[day][0]:
                best[day] = key, content
    return {day: content for day, (_, content) in best.items()}


def current(store: Store, known: int | None = None) -> dict[str, tuple[str, int]]:
    """What the store says now (or knew then): day -> value and interval length."""
    if store.nmis().is_empty() and known is None:
        return {}
    raw = store.readings(NMI, as_known_on=known)
    found: dict[str, tuple[str, int]] = {}
    for day, value, minutes, count in (
        raw.group_by("day", "value", "interval_minutes").len().iter_rows()
    ):
        assert count == 1440 // minutes, "a day is never mixed from two versions"
        assert day.strftime("%Y%m%d") not in found
        found[day.strftime("%Y%m%d")] = (f"{value.normalize():f}", minutes)
    return found


def expected(standing: list[Sent]) -> dict[str, tuple[str, int]]:
    """The model's answer in the same words."""
    return {day: CONTENTS[content] for day, content in model(standing).items()}


@given(
    sent=st.lists(files, min_size=2, max_size=5),
    order=st.randoms(use_true_random=False),
    together=st.booleans(),
)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_order_with_any_subset_undone_gives_the_same_readings(
    empty_store, sent, order, together
):
    """Some undone, some put back: the store agrees with the model, now and as known on."""
    numbers = list(range(len(sent)))
    order.shuffle(numbers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(empty_store, folder / "store.db")
        with open_store(str(folder / "store.db")) as store:
            delivered: dict[int, int] = {}
            paths = {}
            for number in numbers:
                paths[number] = folder / f"{number}.csv"
                paths[number].write_bytes(sent[number].text(number))
            history = []
            for group in [numbers] if together else [[number] for number in numbers]:
                summary = load(store, [paths[number] for number in group])
                for number, outcome in zip(group, summary.files, strict=True):
                    if outcome.state != "rejected":
                        delivered[number] = outcome.delivery
                        counts = outcome.days
                        assert counts.read == counts.stored + counts.unchanged + counts.rejected
                if not together:
                    history.append((store.seq_at(), current(store)))
            standing = sorted(delivered)
            assert current(store) == expected([sent[number] for number in standing])
            gone = [number for number in standing if order.random() < 0.5]
            for number in gone:
                undo(store, delivered[number])
            left = [number for number in standing if number not in gone]
            assert current(store) == expected([sent[number] for number in left])
            for number in gone:
                history.append((store.seq_at(), current(store)))
                redo(store, delivered[number])
            assert current(store) == expected([sent[number] for number in standing])
            for seq, then in history:
                assert current(store, seq) == then


@given(
    first=files,
    stamps=st.lists(st.sampled_from(STAMPS[1:]), min_size=1, max_size=3),
    undone=st.integers(0, 3),
)
@settings(max_examples=6, deadline=None)
def test_equal_content_sent_again_under_newer_stamps_is_never_lost(
    empty_store, first, stamps, undone
):
    """However often a day is repeated, undoing one delivery leaves it standing by the others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(empty_store, folder / "store.db")
        with open_store(str(folder / "store.db")) as store:
            sent = [first]
            for stamp in stamps:
                days = tuple(
                    {day: (day, stamp, content) for day, _, content in first.days}.values()
                )
                sent.append(Sent(first.file_at, days))
            for number, one in enumerate(sent):
                path = folder / f"{number}.csv"
                path.write_bytes(one.text(number))
                load(store, path)
            assert current(store) == expected(sent)
            gone = undone % len(sent)
            undo(store, gone + 1)
            assert current(store) == expected([s for n, s in enumerate(sent) if n != gone])


def test_equal_or_missing_file_times_still_give_one_declared_winner(empty_store, tmp_path):
    """Equal stamps, equal or no file time: the content hash decides, in either order."""
    for file_at in ("202503040000", "2025"):
        a, b = (Sent(file_at, ((DAYS[0], "", content),)) for content in (0, 1))
        for turn, pair in enumerate([(a, b), (b, a)]):
            target = tmp_path / f"{file_at}-{turn}.db"
            shutil.copy(empty_store, target)
            with open_store(str(target)) as store:
                for number, one in enumerate(pair):
                    path = tmp_path / "in.csv"
                    path.write_bytes(one.text(number))
                    load(store, path)
                states = store.versions(NMI, date(2025, 3, 1)).select("state", "content_hash")
                assert states.rows()[0] == ("current", max(HASHES[0], HASHES[1]))
                assert states["state"].to_list() == ["current", "superseded"]
