"""A picture's way through the served model, as the page shows it."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import time
from typing import TYPE_CHECKING, Any

from client.calls import calls
from client.errors import ClientUsageError
from client.pictures.batch import Batch
from client.pictures.images import open_picture, pixels_and_doubt, png
from client.types import IMAGE_BYTES, Metadata, Preprocess
from client.web.snippets import Asked, snippets
from fashion_common.served_model import CLASS_NAMES

if TYPE_CHECKING:
    from client.web.served import Answering, Look, Served
    from client.web.snippets import Reach

# As many differ between two runtimes of the same version by rounding.
_SAME = 0.005


def takes_garments(metadata: Metadata) -> bool:
    """Whether a model takes images of 28x28 and answers with ten classes, as far as its signatures say."""
    try:
        next(calls(Batch("DT_UINT8", bytes(IMAGE_BYTES)), metadata, None))
    except ClientUsageError:
        return False
    outputs = metadata.signatures["serving_default"].outputs
    only = next(iter(outputs.values())) if len(outputs) == 1 else None
    info = outputs.get("probabilities") or outputs.get("scores") or only
    return info is not None and (not info.shape or info.shape[-1] in (-1, len(CLASS_NAMES)))


def seen(content: bytes, name: str, preprocess: Preprocess) -> tuple[bytes, str]:
    """What the model sees of a picture file, uint8 [28, 28], and why its answer may mean nothing. Raises ImageError."""
    return pixels_and_doubt(open_picture(io.BytesIO(content), name), preprocess)


async def predict(
    served: Served, look: Look, pixels: bytes, name: str, preprocess: Preprocess, reach: Reach
) -> dict[str, Any]:
    """The answers of all that answer, in JSON. Raises ServerError, ClientUsageError.

    pixels: uint8 [28, 28]. reach: how the snippets get to the server.
    """
    batch = Batch("DT_UINT8", pixels)
    answers = await asyncio.gather(*(_answer(served, answering, batch) for answering in look.answering))
    first, *others = answers
    for other in others:
        other["differences"] = _differences(first["probabilities"], other["probabilities"])
    asked = Asked(served.version(first["version"]).model, batch, name, preprocess)
    return {
        "png": base64.b64encode(png(pixels)).decode(),
        "answers": answers,
        "differs": any(other["class_name"] != first["class_name"] for other in others),
        "snippets": snippets(asked, await served.version(first["version"]).metadata(), reach, first),
    }


async def _answer(served: Served, answering: Answering, batch: Batch) -> dict[str, Any]:
    connection = served.version(answering.version)
    # Read once a version, and no part of the request.
    await connection.metadata()
    begin = time.perf_counter()
    [prediction] = await connection.predict(batch)
    milliseconds = 1000 * (time.perf_counter() - begin)
    return {
        **answering._asdict(),
        **prediction._asdict(),
        "probability": _finite(prediction.probability),
        "probabilities": [_finite(value) for value in prediction.probabilities],
        "ms": round(milliseconds, 2),
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _differences(first: list[float | None], other: list[float | None]) -> list[float | None]:
    """By how much each class's probability is above the first one's; None where it is the same, or no number."""
    return [
        after - before if before is not None and after is not None and abs(after - before) > _SAME else None
        for before, after in zip(first, other, strict=True)
    ]
