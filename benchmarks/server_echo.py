"""The ceiling of Python gRPC: a bare grpc.aio server that answers every request with the same bytes.

Arguments: the port and the number of bytes.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio


async def main(port: int, size: int) -> None:
    """Answers until it is killed."""
    reply = b"x" * size

    async def predict(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return reply

    server = grpc.aio.server()
    service = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    )
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
