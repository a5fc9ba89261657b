"""`fashion export --sign`."""

from __future__ import annotations

from pathlib import Path

import pytest

from delivery.verification import public_keys, verify_version
from tests.support.exports import children, invoke, manifest
from tests.support.keys import key_pair


@pytest.mark.usefixtures("steps_here")
def test_an_export_can_be_signed(run: Path, base: Path, tmp_path: Path) -> None:
    """The signature covers the manifest; a key that cannot be used ends the export before it begins."""
    pair = key_pair(tmp_path, "release")
    result = invoke("export", run, "--model-base-path", base, "--sign", pair.private)
    assert result.exit_code == 0, result.stderr
    verified = verify_version(base / "1", public_keys([pair.public]))
    assert verified.files == len(manifest(base / "1")["files"]) + 1
    assert invoke("export", "--verify", base / "1").exit_code == 0
    result = invoke("export", run, "--model-base-path", base, "--sign", pair.public)
    assert (result.exit_code, "as a private key in PEM" in result.stderr) == (2, True)
    assert children(base) == ["1"]
