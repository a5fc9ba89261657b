"""Evidence that was made before: what `fashion compare --json` printed."""

from __future__ import annotations

import json
from pathlib import Path

from fashion_common.evidence import Evidence
from rollout.errors import RolloutUsageError


def given_evidence(path: Path, stable: int, version: int) -> Evidence | None:
    """The evidence in a file, of these two versions; None for a file that is no JSON, such as a recording.

    Raises EvidenceError for JSON that is none, RolloutUsageError for evidence of other versions or a missing file.
    """
    if path.suffix != ".json":
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RolloutUsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RolloutUsageError(f"{path} is no JSON: give what `fashion compare --json` printed") from error
    evidence = Evidence.from_json(record)
    compared = evidence.baseline.version, evidence.candidate.version
    if compared != (stable, version):
        raise RolloutUsageError(
            f"{path} compares version {compared[1]} with {compared[0]}, not {version} with {stable}, which is stable: "
            "compare these"
        )
    return evidence
