"""The least an endpoint can do that may answer "accepted": write, flush, rename, flush the folder.

Run as ``python bench/bare.py FOLDER``; prints the URL it serves. The service's uploads are set
beside this one, with the same bytes, server and client, in one run.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

FOLDER = Path(sys.argv[1])


async def put(request: Request) -> JSONResponse:
    """Keep the body, safely."""
    body = b"".join([piece async for piece in request.stream()])
    return JSONResponse({"name": await run_in_threadpool(_kept, body)}, 202)


def _kept(body: bytes) -> str:
    name = uuid.uuid4().hex
    part = FOLDER / f"{name}.part"
    with part.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    part.rename(FOLDER / name)
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return name


if __name__ == "__main__":
    app = Starlette(routes=[Route("/v1/deliveries/{name}", put, methods=["PUT"])])
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(f"serves http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
