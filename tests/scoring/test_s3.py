"""`fashion score` from a bucket to a bucket, on a real server of S3."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.scoring.conftest import parquet
from tests.support.console import FASHION
from tests.support.s3 import bucket_of


def score(variables: dict[str, str], source: object, model: Path, output: object) -> subprocess.CompletedProcess[str]:
    """`fashion score`, to its end."""
    command = [FASHION, "score", source, "--model", model, "--output", output]
    return subprocess.run(
        list(map(str, command)), env=variables, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_job_from_a_bucket_to_a_bucket(scored_model: Path, s3_environment: dict[str, str], tmp_path: Path) -> None:
    """The parts are those of local files, to the byte; asked again, nothing is written anew."""
    bucket = bucket_of(s3_environment)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        path = parquet(folder / f"{number}.parquet", 50 + number)
        bucket.upload_file(str(path), f"in/{number}.parquet")
    assert score(s3_environment, folder, scored_model, tmp_path / "out").returncode == 0
    done = score(s3_environment, "s3://bucket/in/*.parquet", scored_model, "s3://bucket/out")
    assert (done.returncode, done.stdout.split(" in s3")[0]) == (0, "153 rows in 3 parts"), done.stderr
    written = {item.key: item.last_modified for item in bucket.objects.filter(Prefix="out/part-")}
    assert sorted(written) == [f"out/part-00000{number}.parquet" for number in range(3)]
    for key in written:
        assert bucket.Object(key).get()["Body"].read() == (tmp_path / key).read_bytes()
    again = score(s3_environment, "s3://bucket/in/*.parquet", scored_model, "s3://bucket/out")
    assert again.returncode == 0, again.stderr
    assert {item.key: item.last_modified for item in bucket.objects.filter(Prefix="out/part-")} == written


def test_a_bucket_that_is_not_there(scored_model: Path, s3_environment: dict[str, str], tmp_path: Path) -> None:
    """Exit code 2, and a line that names it, without the credentials."""
    done = score(s3_environment, "s3://nowhere/in", scored_model, tmp_path / "out")
    assert done.returncode == 2
    assert "s3://nowhere/in" in done.stderr.splitlines()[-1]
    assert s3_environment["AWS_SECRET_ACCESS_KEY"] not in done.stderr
