"""Every way a command can end badly, mapped to one sentence and one exit code, in one place.

Why: people and scripts rely on the codes. 0 fine; 1 problems found in the data; 2 wrong usage;
3 our fault or the system's (a missing extra, a locked store, a full disk, a wrong URL, an old
schema); 130 stopped with Ctrl-C; 141 the reader of our pipe went away; 143 told to end.

Promises: no traceback reaches a person unless ``NEMFLOW_DEBUG=1``; the sentence ends with the
next thing to do.

Look next: :mod:`nemflow.errors` for the tree, :mod:`nemflow.cli.output` for what is printed.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from nemflow.errors import FileRefused, NemflowError

FINE: Final = 0
PROBLEMS: Final = 1
USAGE: Final = 2
FAULT: Final = 3
STOPPED: Final = 130
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143

STOPPED_TEXT: Final = "stopped; nothing half loaded"
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_MISSING: Final = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


@contextmanager
def mapped() -> Iterator[None]:
    """Turn whatever escapes the block into a sentence on stderr and ``typer.Exit(code)``."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as stop:
        code = _tell(stop, STOPPED_TEXT, STOPPED)
    except BrokenPipeError:
        leave_pipe_quietly()
        code = PIPE_CLOSED
    except NemflowError as error:
        code = _tell(error, _in_words(error), error.exit_code)
    except OSError as error:
        code = _tell(error, *_os_error_in_words(error))
    except MemoryError as error:
        code = _tell(error, "There is not enough memory. Give fewer files at once.", FAULT)
    except Exception as error:  # the last line of defence: a person never meets a traceback
        if hasattr(error, "format_message"):
            raise  # a wrong option or argument: typer words it and exits with 2
        code = _tell(
            error,
            f"nemflow met a fault of its own ({type(error).__name__}: {error}). "
            "Run it again with NEMFLOW_DEBUG=1 and send us what it prints.",
            FAULT,
        )
    else:
        return
    raise typer.Exit(code)


def leave_pipe_quietly() -> None:
    """The reader of stdout is gone: keep Python from complaining about it at exit."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
    except (OSError, ValueError):  # stdout is no real file (a test's buffer)
        return


def _in_words(error: NemflowError) -> str:
    """The error's sentence and its next step; a refusal names its rule, file and line."""
    if isinstance(error, FileRefused):
        return str(error)
    return f"{error.message} {error.hint}".strip()


def _os_error_in_words(error: OSError) -> tuple[str, int]:
    """What the system said, in a sentence, and whether the person or the system is at fault."""
    name = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in _DISK_FULL:
        return f"{name}the disk is full. Make room, then run the same command again.", FAULT
    if error.errno in _MISSING:
        return f"{name}{reason}. Check the path.", USAGE
    if isinstance(error, PermissionError):
        return f"{name}{reason}. Check who may read or write it.", FAULT
    return f"{name}{reason}.", FAULT


def _tell(error: BaseException, sentence: str, code: int) -> int:
    """Print the sentence on stderr (and the traceback when asked for); returns the code."""
    if os.environ.get("NEMFLOW_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    text = sentence if code == STOPPED else f"nemflow: {sentence}"
    typer.echo(text, err=True)
    return code
