"""Records the answers of a server anew: `python -m tests.contract.record GRPC_ADDRESS REST_ADDRESS`.

README.md says which server that must be. Requests, names and notes stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from serving.apis import messages
from tests.contract import test_grpc, test_rest


def main(grpc_address: str, rest_address: str) -> None:
    """Asks every case, in order, and writes both files."""
    directory = Path(__file__).parent
    with grpc.insecure_channel(grpc_address) as channel:
        for case in test_grpc.CASES:
            code, answer = test_grpc.ask(channel, case)
            case["response"] = {"code": code, "details": answer} if code != "OK" else {"code": code, **as_json(answer)}
    for case in test_rest.CASES:
        status, content_type, body = test_rest.ask(rest_address, case["request"])
        case["response"].update(status=status, content_type=content_type, body=body)
    for name, cases in (("grpc.json", test_grpc.CASES), ("rest.json", test_rest.CASES)):
        (directory / name).write_text(json.dumps(cases, indent=1))


def as_json(answer: Message) -> dict[str, Any]:
    """A message for whoever reads the file, and the bytes that the tests compare."""
    message = json_format.MessageToDict(answer, preserving_proto_field_name=True, descriptor_pool=messages.POOL)
    return {"message": message, "serialized": answer.SerializeToString(deterministic=True).hex()}


if __name__ == "__main__":
    main(*sys.argv[1:])
