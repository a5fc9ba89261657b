"""Mutants that no test can kill, since they change nothing that anyone could notice: a list with the reasons."""

from __future__ import annotations

import json
from pathlib import Path

from tools.mutants.mutant import Mutant


class Equivalents:
    """The list. An entry is found by its file and by the text of its lines, so it outlives edits around them."""

    def __init__(self, path: Path) -> None:
        entries = json.loads(path.read_text()) if path.exists() else []
        self._reasons = {(entry["file"], entry["line"], entry["mutant"]): entry["reason"] for entry in entries}

    def reason(self, mutant: Mutant, source: str) -> str | None:
        """Why a mutant is equivalent, or None when it is not known to be."""
        lines = mutant.diff(source).splitlines()[2:]
        before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        return self._reasons.get((mutant.file, before, after))
