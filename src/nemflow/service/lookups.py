"""Answers about one NMI, kept in Redis for a while.

Why: a page that many look at asks the same again and again, and reading a year costs more than
handing over what was read a minute ago.

Promises: an answer is kept under the last commit, and only when no commit came in between, so what
is handed over is what the store would say at this moment; who may ask is decided before. Without
Redis every question goes to the store. A question that notes who took what is never answered from
here.

Look next: ``nemflow.jobs.side``, ``nemflow.jobs.rediskeys``; ``queries.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from nemflow._version import __version__
from nemflow.service import forms

if TYPE_CHECKING:
    from nemflow.service.context import Context


def kept(request: Request, given: Context, ask: Callable[[], Response]) -> Response:
    """The answer to a question about one NMI: a kept one, else what ``ask`` says.

    Raises:
        Problem, NemflowError: whatever ``ask`` raises; nothing of that is kept.
    """
    side = given.side
    if side is None or request.query_params.get("consumer") is not None:
        return ask()
    form = forms.chosen(request)
    mark = given.store.mark()
    query = sorted(request.query_params.multi_items())
    question = repr((__version__, mark, request.url.path, query, form))
    digest = hashlib.sha256(question.encode()).hexdigest()
    found = side.recall(digest)
    if found is not None:
        given.recalled += 1
        return Response(found, 200, {"Vary": "Accept"}, form)
    answer = ask()
    whole = answer.status_code == 200 and not isinstance(answer, StreamingResponse)
    if whole and given.store.mark() == mark:
        side.keep(digest, bytes(answer.body))
    return answer
