"""When and on what something was measured, as result files have it."""

from __future__ import annotations

import os
import platform
import time


def measured_on() -> dict[str, str]:
    """The date, and the machine in a few words."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
