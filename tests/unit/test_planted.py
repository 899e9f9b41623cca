"""The planted bugs still fit the code; ``python -m chaos.planted`` shows that they are noticed."""

from __future__ import annotations

import pytest

from chaos.planted import PLANTS, ROOT, SOURCE, Change, Plant, changed


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_every_plant_fits_the_code_and_leaves_it_python(plant: Plant) -> None:
    """A plant that no longer fits would show nothing; one that breaks the syntax, too little."""
    for change in plant.changes:
        text = (SOURCE / "nemflow" / change.module).read_text(encoding="utf-8")
        planted = changed(text, change)
        assert planted != text
        compile(planted, change.module, "exec")
    paths = [word for word in plant.tests if word.startswith("tests/")]
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_a_plant_that_does_not_fit_is_an_error() -> None:
    """Not there, or there twice: neither is planted in silence."""
    for text in ("nothing like it", "x = 1\nx = 1"):
        with pytest.raises(LookupError, match=r"store/a\.py no longer has"):
            changed(text, Change("store/a.py", "x = 1", "x = 2"))
