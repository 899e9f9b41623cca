"""Verify on PostgreSQL: the tests stand in tests/unit/test_verify.py."""

from borrowed import from_unit

_unit = from_unit("test_verify")
_impatient = _unit._impatient
globals().update({name: test for name, test in vars(_unit).items() if name.startswith("test_")})
