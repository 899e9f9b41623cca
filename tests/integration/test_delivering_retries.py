"""A link cut at a COMMIT of receiving or loading: done once, told rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from borrowed import from_file, from_unit
from nemflow.intake.spool import Spool
from nemflow.pipeline import unpack
from nemflow.store import Store

retries = from_file(Path(__file__).parent / "test_retries.py")
delivering = from_unit("test_delivering")
cable, linked, spool = retries.cable, retries.linked, delivering.spool


def inserts_delivery(message: bytes) -> bool:
    """Whether a delivery's row is written."""
    return b"INSERT INTO delivery" in message


@pytest.mark.parametrize("when", ["before", "after"])
def test_received_once(linked: Store, spool: Spool, cable: Any, when: str) -> None:
    """Whether the server got the COMMIT or not: one row, one original."""
    cable.cut_at(retries.Next(retries.is_commit, after=inserts_delivery), when)
    receipt = delivering.send(linked, spool, "a.csv", b"data")
    assert cable.cuts == 1
    assert linked.deliveries()["delivery"].to_list() == [receipt.delivery]
    assert spool.has(receipt.sha256)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["text", "pieces", "archive"])
def test_published_once(  # noqa: PLR0917 - fixtures
    linked: Store,
    spool: Spool,
    cable: Any,
    nem12: Any,
    a_day: Any,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    kind: str,
) -> None:
    """The COMMIT that publishes is not answered: loaded, not a duplicate of itself."""
    if kind == "pieces":
        monkeypatch.setattr(unpack, "WHOLE_BYTES", 10)
    data = nem12(a_day())
    if kind == "archive":
        data = delivering.zipped(a_csv=data)
    receipt = delivering.send(linked, spool, "a", data)
    cable.cut_at(retries.Next(retries.is_commit, after=retries.publishes), when)
    settled = delivering.worked(linked, spool, receipt.delivery)
    assert cable.cuts == 1
    assert settled.state == "loaded"
    assert [each.state for each in settled.outcome.files] == ["loaded"]
    assert linked.nmis()["days"].to_list() == [1]
    delivering.must_hold(linked, spool)
