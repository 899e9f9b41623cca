"""A collector of spans for tests: a real HTTP server that takes OTLP as protobuf."""

from __future__ import annotations

import gzip
import http.server
import threading
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """A collector: OTLP over HTTP, protobuf, as it is specified."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.made_by: dict[bytes, str] = {}  #: span id -> which process
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    data = gzip.decompress(data)
                told = ExportTraceServiceRequest.FromString(data)
                for of_resource in told.resource_spans:
                    (made_by,) = [
                        each.value.string_value
                        for each in of_resource.resource.attributes
                        if each.key == "service.instance.id"
                    ]
                    for of_scope in of_resource.scope_spans:
                        outer.made_by |= {each.span_id: made_by for each in of_scope.spans}
                        outer.spans += of_scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Receive no more."""
        self.server.shutdown()
        self.server.server_close()
