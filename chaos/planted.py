"""Planted bugs: the suite goes red when a promise is broken on purpose.

Why: a test that cannot fail is worth nothing, and nobody knows which those are.

How: each bug is a small change to the text of a module, made in a copy of ``src``; the tests that
should notice run against the copy. A change that no longer fits the text is an error: then the
code has moved on, and the plant must follow.

``python -m chaos.planted`` plants them all, one after the other; docs/testing.md shows what it
says. Give words to plant only those whose names contain one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
_SHOWN = 4  #: red tests that are named


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of text, once in its module, and what it becomes."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug: what is changed, and who should notice."""

    name: str
    how: str  #: what the change does, in words
    changes: tuple[Change, ...]
    tests: tuple[str, ...]  #: arguments of pytest


_CONTRACT = "tests/unit/test_store_contract.py"
_CHAOS = "tests/integration/test_chaos.py"
_DELIVERING = "tests/unit/test_delivering.py"

#: A commit number drawn, and committed, before the transaction that will carry it begins.
_EARLY = """    def _early(self):
        with self._engine.connect() as other, other.begin():
            if other.exec_driver_sql("SELECT to_regclass('clock')").scalar():
                return self._tick(other)

    def tick(self, conn):
        return conn.info["drawn"]

    def _tick(self"""

PLANTS = (
    Plant(
        "the lease guard is removed",
        "`hold` no longer minds when the load is not ours any more",
        (Change("store/leases.py", "if held != 1:", "if held > 1:"),),
        (_CHAOS, "-k", "wakes"),
    ),
    Plant(
        "the sort key is the order of arrival",
        "the load's number goes before version_at when the winner is picked",
        (
            Change(
                "store/days.py",
                "            columns.version_at.desc().nulls_last(),\n",
                "            columns.load.desc(),\n            columns.version_at.desc(),\n",
            ),
        ),
        (_CONTRACT, _CHAOS, "-k", "contract or never or released"),
    ),
    Plant(
        "equal days are skipped instead of claimed",
        "a claim is written only when its content did not stand",
        (
            Change(
                "store/days.py",
                'judged.filter("write_claim")',
                'judged.filter("write_claim", "stored")',
            ),
        ),
        (_CONTRACT,),
    ),
    Plant(
        "seq is drawn at the start of the transaction",
        "the commit number is drawn, and committed, before the work begins",
        (
            Change(
                "store/backends/postgres.py",
                "                yield conn\n                failpoints",
                "                conn.info['drawn'] = self._early()\n"
                "                yield conn\n                failpoints",
            ),
            Change("store/backends/postgres.py", "    def tick(self", _EARLY),
        ),
        ("tests/integration/test_commit_order.py",),
    ),
    Plant(
        "the counts are faked",
        "rejected days are left out of the days read",
        (
            Change(
                "pipeline/account.py",
                'pl.sum_horizontal(f"{of}_stored", f"{of}_unchanged", f"{of}_rejected")',
                'pl.sum_horizontal(f"{of}_stored", f"{of}_unchanged")',
            ),
        ),
        ("tests/unit/test_pipeline_load.py", _CHAOS, "-k", "pipeline_load or never"),
    ),
    Plant(
        "the answer goes out before the bytes are kept",
        "an upload is written to the ledger, and its original is not laid under its name",
        (Change("pipeline/receiving.py", "        landing.keep()\n", "        pass\n"),),
        (_DELIVERING, "-k", "received_it_is or same_bytes_at"),
    ),
    Plant(
        "who lost a delivery goes on",
        "the guard of a worker's transactions no longer asks whose the delivery is",
        (
            Change(
                "store/work.py",
                "    if row is None or row.lease_token != token:\n        raise StoreTaken(",
                "    if row is None:\n        raise StoreTaken(",
            ),
            Change("store/leases.py", "if held != 1:", "if held > 1:"),
        ),
        (_DELIVERING, "-k", "lost_the_lease or taken_away or take_it_from"),
    ),
    Plant(
        "what the broker forgot is not told again",
        "a delivery that was told once is never due again",
        (
            Change(
                "store/dispatch.py",
                "            sa.or_(waits.c.sent_at.is_(None), waits.c.sent_at < cutoff),\n",
                "            waits.c.sent_at.is_(None),\n",
            ),
        ),
        ("tests/unit/test_worker.py", "-k", "forgot_everything or died_with"),
    ),
)


@contextmanager
def copy_with(changes: Sequence[Change]) -> Iterator[Path]:
    """A copy of the sources with these changes made.

    Raises:
        LookupError: a change does not fit the text of its module any more.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        copy = Path(name) / "src"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for change in changes:
            path = copy / "nemflow" / change.module
            path.write_text(changed(path.read_text(encoding="utf-8"), change), encoding="utf-8")
        yield copy


def changed(text: str, change: Change) -> str:
    """A module's text with a change made.

    Raises:
        LookupError: what is to be changed is not there exactly once.
    """
    if text.count(change.old) != 1:
        raise LookupError(f"{change.module} no longer has, exactly once: {change.old!r}")
    return text.replace(change.old, change.new)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What the tests said of a copy."""

    red: tuple[str, ...]  #: tests that failed
    passed: int
    seconds: float


def run_tests(copy: Path, tests: Sequence[str]) -> Noticed:
    """Run tests against a copy of the sources."""
    begun = time.perf_counter()
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
    done = subprocess.run(
        [*words, *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    red = re.findall(r"^(?:FAILED|ERROR) (\S+?::[^\n]+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    passed = re.search(r"(\d+) passed", done.stdout)
    count = int(passed[1]) if passed else done.stdout.partition("\n")[0].count(".")
    return Noticed(tuple(red), count, time.perf_counter() - begun)


def main(words: Sequence[str]) -> int:
    """Plant the bugs; 1 when one was not noticed."""
    unseen = 0
    for plant in PLANTS:
        if words and not any(word in plant.name for word in words):
            continue
        with copy_with(()) as copy:
            sound = run_tests(copy, plant.tests)
        with copy_with(plant.changes) as copy:
            planted = run_tests(copy, plant.tests)
        good = bool(planted.red) and not sound.red
        unseen += not good
        print(f"{'noticed' if good else 'NOT NOTICED':12}{plant.name}")
        print(f"            {plant.how}")
        for test in planted.red[:_SHOWN]:
            print(f"            red: {test.removeprefix('tests/')}")
        if more := len(planted.red[_SHOWN:]):
            print(f"            red: and {more} more")
        print(
            f"            {planted.passed} others stayed green; all {sound.passed} are without it"
        )
        for test in sound.red:
            print(f"            red without the bug: {test}")
        sys.stdout.flush()
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
