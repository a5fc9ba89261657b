"""The errors of delivery.

FashionError
└── DeliveryError               exit 1: a version cannot be signed, or fetched
    ├── SignatureError          a version without a signature that holds
    ├── SourceError             where versions come from cannot be read: it may help to try again
    ├── RefusedError            a version that is not whole there, or damaged
    │   └── ChangedError        one that changes while it is read
    └── DeliveryUsageError      exit 2: a key or an address that cannot be
"""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


class DeliveryError(FashionError):
    """A version that cannot be signed or fetched."""


class SignatureError(DeliveryError):
    """A version that is not what a trusted key signed. The text names its files, and no path of this machine."""


class SourceError(DeliveryError):
    """Where versions come from cannot be read now; the text has no credentials."""


class RefusedError(DeliveryError):
    """A version that is not whole where it comes from, or damaged."""


class ChangedError(RefusedError):
    """A version that changes while it is read."""


class DeliveryUsageError(DeliveryError):
    """A key that cannot be used, an address that cannot be read, a package that is not installed."""

    exit_code = EXIT_USAGE
