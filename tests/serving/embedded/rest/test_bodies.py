"""JSON bodies at the edges of their limits."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.limits import Limits
from serving.embedded.observe.calls import Call, Interceptor, Operation
from serving.embedded.offload import Offload
from serving.embedded.rest.bodies import Bodies
from serving.errors import ResourceExhausted

LIMITS = Limits(max_request_elements=6, max_unpacked_bytes=13)


def parsed(body: bytes, limits: Limits) -> dict[str, Any]:
    """What a body holds."""
    request: Any = SimpleNamespace(take_body=lambda: body)
    call = Call(Interceptor(list), Operation("REST", "Predict", FOR_ANYONE), "/p", str, "", None, len(body))
    document = asyncio.run(Bodies(Offload(), limits).parse(request, call))
    return document.value


def test_as_many_values_as_there_may_be() -> None:
    """An object, a name, a list and three numbers are six."""
    limits = LIMITS._replace(max_unpacked_bytes=1000)
    assert parsed(b'{"a":[1,2,3]}', limits) == {"a": [1, 2, 3]}
    with pytest.raises(ResourceExhausted, match="more than 6 JSON values, the server's --max_request_elements"):
        parsed(b'{"a":[1,2,3,4]}', limits)


def test_a_body_as_large_as_it_may_be() -> None:
    """To the byte."""
    assert parsed(b'{"a":[1,2,3]}', LIMITS) == {"a": [1, 2, 3]}
    with pytest.raises(ResourceExhausted, match="A JSON body of 14 bytes is too large: the limit is 13, send gRPC"):
        parsed(b'{"a":[1,2,3]} ', LIMITS)
