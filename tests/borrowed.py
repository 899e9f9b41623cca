"""Lets one folder's tests run in another: the contract suites, once per engine.

A folder says what its tests need; what every engine must answer alike is written once, in
tests/unit, and borrowed by tests/integration, whose ``store`` is another engine.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType


def from_unit(name: str) -> ModuleType:
    """The module ``tests/unit/<name>.py``."""
    return from_file(Path(__file__).parent / "unit" / f"{name}.py")


def from_file(path: Path) -> ModuleType:
    """The module at ``path``, which is no test module itself."""
    spec = importlib.util.spec_from_file_location(f"borrowed_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def store_tests(name: str) -> dict[str, object]:
    """The tests of ``tests/unit/<name>.py`` that are asked of a store, by name."""
    return {
        key: test
        for key, test in vars(from_unit(name)).items()
        if key.startswith("test_") and "store" in inspect.signature(test).parameters
    }
