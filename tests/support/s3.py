"""A real server of S3 in this process, and what lets others reach it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3() -> Iterator[int]:
    """The port of the server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3_environment(s3: int, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What lets a process reach it; the bucket is empty before and after."""
    variables = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}", "HOME": str(tmp_path)}
    bucket = _resource(variables).create_bucket(Bucket="bucket")
    yield variables
    bucket.objects.delete()
    bucket.delete()


def bucket_of(environment: dict[str, str]) -> Any:
    """The bucket, as boto3 has it."""
    return _resource(environment).Bucket("bucket")


def _resource(environment: dict[str, str]) -> Any:
    import boto3  # type: ignore[import-untyped]

    return boto3.resource(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
