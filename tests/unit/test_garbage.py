"""The garbage collector is held back while texts are loaded, and only then."""

from __future__ import annotations

import gc

import pytest

from nemflow.pipeline.garbage import seldom


def test_loads_that_overlap_leave_the_collector_as_they_found_it() -> None:
    """Whichever ends first, and also when one raises."""
    usual = gc.get_threshold()
    first, second = seldom(), seldom()
    first.__enter__()
    second.__enter__()
    assert gc.get_threshold()[0] > usual[0]
    first.__exit__(None, None, None)
    assert gc.get_threshold()[0] > usual[0]
    second.__exit__(None, None, None)
    assert gc.get_threshold() == usual
    with pytest.raises(ValueError, match="planted"), seldom():
        raise ValueError("planted")
    assert gc.get_threshold() == usual


def test_a_collector_that_is_off_stays_off() -> None:
    """Somebody who has switched it off by its threshold does not get it back."""
    usual = gc.get_threshold()
    try:
        gc.set_threshold(0)
        with seldom():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*usual)
