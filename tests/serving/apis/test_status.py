"""Status codes are gRPC's, and their HTTP statuses TF Serving's."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest
import tensorflow as tf

from serving.apis.status import Code

# ToHTTPStatusCode in tensorflow_serving/model_servers/http_server.cc.
HTTP_STATUSES = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


def test_codes_are_grpcs_and_tensorflows() -> None:
    """The same names and numbers."""
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}
    assert all(Code[name] == getattr(tf.errors, name) for name in HTTP_STATUSES if name != "OK")


def test_every_code_has_tf_servings_http_status() -> None:
    """None is left out."""
    assert {code.name: code.http_status for code in Code} == HTTP_STATUSES


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, Code.OK),
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (409, Code.ABORTED),
        (413, Code.RESOURCE_EXHAUSTED),
        (429, Code.RESOURCE_EXHAUSTED),
        (499, Code.CANCELLED),
        (500, Code.INTERNAL),
        (501, Code.UNIMPLEMENTED),
        (502, Code.UNAVAILABLE),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
        (418, Code.UNKNOWN),
    ],
)
def test_an_http_status_stands_for_its_likeliest_code(status: int, code: Code) -> None:
    """Those of proxies too; any other is UNKNOWN."""
    assert Code.of_http_status(status) is code


def test_importing_them_imports_nothing_heavy() -> None:
    """The client reads them before it answers."""
    program = "import serving.apis.status, sys; assert not {'google', 'numpy', 'grpc'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
