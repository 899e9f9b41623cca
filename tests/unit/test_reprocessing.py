"""Reprocess: an original read again, first compared, then done."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemflow.errors import NotFound
from nemflow.intake.spool import Spool, SpoolLimits
from nemflow.pipeline.delivering import Delivering, process
from nemflow.pipeline.loading import new_token
from nemflow.pipeline.receiving import Receipt, receive
from nemflow.pipeline.reprocessing import compare, reprocess, source_of
from nemflow.store import Store, work

NMI = "SASMPL0001"


class House:
    """A store, a spool that keeps what was loaded, and a worker."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.archive = folder / "archive"
        self.spool = Spool(folder / "spool", SpoolLimits(free_bytes=1))
        self.how = Delivering(keep_after="archive", archive=self.archive)

    def send(self, data: bytes, name: str = "day.csv", profile: str | None = None) -> Receipt:
        """Received and worked on."""
        with self.spool.landing() as landing:
            landing.write(data)
            told = receive(
                self.store, self.spool, landing, name=name, channel="http", profile=profile
            )
        self.work(told.delivery)
        return told

    def work(self, number: int) -> str:
        """To its end."""
        token, backend = new_token(), self.store.backend
        backend.transact(lambda conn: work.claim(conn, backend, number, token, 60))
        return process(self.store, self.spool, number, token=token, how=self.how).state

    def changes(self, number: int, profile: str | None = None) -> dict[str, int]:
        """What reading it again would change."""
        source = source_of(self.store, number, self.spool, self.archive)
        return compare(self.store, source, self.how, profile=profile).counts


@pytest.fixture
def house(store, tmp_path):
    """All of it."""
    return House(store, tmp_path)


def test_nothing_would_change_when_nothing_has_changed(house, nem12, nem13, a_day) -> None:
    """Every day and register read of a text is the same; nothing is written by asking."""
    days = [a_day(day=f"2025030{n}") for n in (1, 2, 3)]
    house.send(nem12(*days))
    period = (
        "250,4001234567,11,1,11,11,METER2,E,000021.2,20250101000001,A,,,000534.5,20250201000001,"
        "A,,,513.3,kWh,20250401,20250202112500,"
    )
    house.send(nem13(period), name="reads.csv")
    before = house.store.seq_at()
    assert house.changes(1) == {"same": 3, "changed": 0, "gained": 0, "lost": 0}
    assert house.changes(2) == {"same": 1, "changed": 0, "gained": 0, "lost": 0}
    assert house.store.seq_at() == before
    assert house.store.deliveries().height == 2


def test_what_it_says_is_what_happens(house, nem12, a_day) -> None:
    """Under stricter rules a day would be lost, with the rule; done, exactly that is gone."""
    text = nem12(a_day(day="20250301"), a_day(day="20250302"))
    told = house.send(text.replace(b"300,20250302", b"300,2025-03-02"), profile="portal")
    source = source_of(house.store, told.delivery, house.spool, house.archive)
    found = compare(house.store, source, house.how, profile="b2b")
    rows = {str(row["day"]): row for row in found.rows.to_dicts()}
    assert found.counts["lost"] == 1, found.rows
    assert rows["2025-03-02"]["change"] == "lost"
    assert rows["2025-03-02"]["rules"] == ["I015"]
    again = reprocess(house.store, house.spool, source, profile="b2b", by="ann")
    assert house.store.delivery(told.delivery)["state"].item() == "undone"
    assert (again.state, again.sha256) == ("received", told.sha256)
    assert house.work(again.delivery) == "partly_loaded"
    days = house.store.readings(NMI)["day"].unique().to_list()
    assert [str(each) for each in days] == ["2025-03-01"]
    assert house.store.deliveries(channel="reprocess")["profile"].to_list() == ["b2b"]
    back = source_of(house.store, again.delivery, house.spool, house.archive)
    assert compare(house.store, back, house.how, profile="portal").counts["gained"] == 1


def test_killed_before_it_is_written_the_old_load_stands(house, nem12, a_day, monkeypatch) -> None:
    """Undoing and receiving are one transaction."""
    told = house.send(nem12(a_day()))
    source = source_of(house.store, told.delivery, house.spool, house.archive)

    def broken(*_, **__):
        raise RuntimeError("killed")

    monkeypatch.setattr("nemflow.pipeline.reprocessing.receive_in", broken)
    with pytest.raises(RuntimeError):
        reprocess(house.store, house.spool, source, profile=None)
    assert house.store.delivery(told.delivery)["state"].item() == "loaded"
    assert house.store.readings(NMI).height == 48


def test_without_its_original_it_cannot_be_read_again(house, nem12, a_day, tmp_path) -> None:
    """And says how originals are kept."""
    told = house.send(nem12(a_day()))
    with pytest.raises(NotFound, match="keep_after"):
        source_of(house.store, told.delivery, house.spool, None)
    with pytest.raises(NotFound):
        source_of(house.store, 99, house.spool, house.archive)
    by_file = source_of(house.store, "1", house.spool, house.archive, file=True)
    assert by_file.delivery == told.delivery
