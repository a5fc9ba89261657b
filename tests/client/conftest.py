"""What the client's tests share."""

from __future__ import annotations

from tests.support.any_models import any_models

__all__ = ["any_models"]
