"""Servers that answer nothing but a model's status: what a client's transport needs of a gRPC or HTTP server."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

from serving.apis import services


@contextmanager
def grpc_server(
    answer: Callable[[grpc.ServicerContext], bytes],
    *,
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[int]:
    """A gRPC server whose GetModelStatus gives the serialized response of `answer`; its port."""

    def handle(_request: bytes, context: grpc.ServicerContext) -> bytes:
        return answer(context)

    handler = grpc.method_handlers_generic_handler(
        services.MODEL_SERVICE, {"GetModelStatus": grpc.unary_unary_rpc_method_handler(handle)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    yield port
    server.stop(None).wait()


@contextmanager
def http_server(
    answer: Callable[[Mapping[str, str]], tuple[int, bytes]], *, context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """An HTTP server whose GET gives the status and body of `answer`, which takes the headers and `:path`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer({":path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
