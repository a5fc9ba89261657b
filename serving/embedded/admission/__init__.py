"""What is let in: bytes, connections and descriptors, over both ports."""

from __future__ import annotations

from typing import NamedTuple

from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.limits import Limits


class Admission(NamedTuple):
    """What both ports hold their clients to, together."""

    limits: Limits
    budget: Budget
    connections: Connections
