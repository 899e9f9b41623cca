"""A file that appears whole or not at all.

Why: a stopped or failed command must not leave half a file that someone then uses.

Promises: what is written lies beside its place, in a folder of a temporary name, and is renamed at
the end; on any error, Ctrl-C included, the folder is removed and what was there before is
untouched. A folder, because a writer's threads may outlive it by a moment: without the folder they
cannot make the file again.

Look next: ``convert.py`` and ``make.py`` write through it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemflow.errors import UsageError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The temporary path to write to; it takes the place of ``path`` when the block ends well.

    Raises:
        UsageError: the folder is not there, or the path is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", hint="Give the name of a file.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", hint="Make it, or name another.")
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    draft = folder / path.name
    try:
        folder.mkdir()
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """The folder and all in it; again, as long as a thread still puts something there."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
