"""A question that the page asked, as a user asks it again: `fashion predict`, Python, curl."""

from __future__ import annotations

import functools
import gzip
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.calls import calls
from client.pictures.batch import Batch
from client.transports import rest_wire
from client.transports.address import ServerAddress
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Preprocess
from fashion_common.served_model import MODEL_NAME

# Where REST is beside gRPC, unless somebody chose another port.
_REST_PORT = 8501


@dataclass(frozen=True)
class Reach:
    """How a server is reached: its address and its security."""

    address: ServerAddress
    security: Security

    @property
    def options(self) -> list[str]:
        """The options of `fashion`'s commands; a header's value, which may be a token, is left to the user."""
        security = self.security
        files = {
            "--tls-ca": security.ca_file,
            "--tls-certificate": security.certificate_file,
            "--tls-key": security.key_file,
            "--tls-server-name": security.server_name,
        }
        pairs = [(option, str(value)) for option, value in files.items() if value is not None]
        headers = [("--header", f"{name}=...") for name, _ in security.headers]
        return [text for pair in [("--server", str(self.address)), *pairs, *headers] for text in pair]

    @property
    def curl(self) -> list[str]:
        """The options of curl."""
        security = self.security
        files = {"--cacert": security.ca_file, "--cert": security.certificate_file, "--key": security.key_file}
        pairs = [(option, str(value)) for option, value in files.items() if value is not None]
        headers = [("-H", f"{name}: ...") for name, _ in security.headers]
        return [text for pair in [*pairs, *headers] for text in pair]

    @property
    def rest_url(self) -> str:
        """Where REST is; beside gRPC, its usual port."""
        if self.address.is_rest:
            return str(self.address)
        host = "127.0.0.1" if self.address.scheme == "unix" else self.address.target.rpartition(":")[0]
        return f"http://{host}:{_REST_PORT}"


@dataclass(frozen=True)
class Asked:
    """What was asked: the model's version, the image, and the file and the way that it came from."""

    model: ModelSpec
    batch: Batch
    name: str
    preprocess: Preprocess


def snippets(asked: Asked, metadata: Metadata, reach: Reach, answer: Mapping[str, Any]) -> dict[str, str]:
    """The text of each, by the name of its tab; `Answer` is what `fashion predict --json` prints."""
    fields = ("class_id", "class_name", "probability", "probabilities")
    return {
        "fashion predict": _command(asked, reach),
        "Python": _python(asked, reach),
        "curl": _curl(asked, metadata, reach),
        "Answer": json.dumps({"file": asked.name, **{name: answer[name] for name in fields}}, indent=1),
    }


def _command(asked: Asked, reach: Reach) -> str:
    name = [] if asked.model.name == MODEL_NAME else ["--model-name", asked.model.name]
    preprocess = [] if asked.preprocess == "auto" else ["--preprocess", asked.preprocess]
    version = ["--model-version", str(asked.model.version)]
    # What looks like an option is a file all the same.
    file = f"./{asked.name}" if asked.name.startswith("-") else asked.name
    return _lines(["fashion", "predict", file], [*reach.options, *name, *version, *preprocess])


def _python(asked: Asked, reach: Reach) -> str:
    preprocess = "" if asked.preprocess == "auto" else f", {asked.preprocess!r}"
    security = reach.security
    arguments = {
        "ca_file": security.ca_file,
        "certificate_file": security.certificate_file,
        "key_file": security.key_file,
        "server_name": security.server_name,
    }
    given = [f"{name}={str(value)!r}" if name == "server_name" else f"{name}=Path({str(value)!r})"
             for name, value in arguments.items() if value is not None]  # fmt: skip
    if security.headers:
        given.append(f"headers={tuple((name, '...') for name, _ in security.headers)!r}")
    secured = f", security=Security({', '.join(given)})" if given else ""
    imported = "ModelSpec, Security, connect" if given else "ModelSpec, connect"
    model = f"ModelSpec({asked.model.name!r}, version={asked.model.version})"
    return f"""from pathlib import Path
from client import {imported}
from client.pictures.batch import Batch
from client.pictures.images import read_image

pixels = read_image(Path({asked.name!r}), {asked.name!r}{preprocess})
with connect({str(reach.address)!r}, model={model}{secured}) as connection:
    [prediction] = connection.predict(Batch("DT_UINT8", pixels))
print(prediction.class_name, prediction.probability)"""


def _curl(asked: Asked, metadata: Metadata, reach: Reach) -> str:
    """What the client itself sends over REST."""
    request = rest_wire.predict(asked.model, functools.partial(calls, asked.batch, metadata, None)).request
    body = gzip.decompress(request.body) if "Content-Encoding" in request.headers else request.body
    return _lines(["curl", f"{reach.rest_url}{request.path}"], [*reach.curl, "-d", body.decode()])


def _lines(command: Sequence[str], options: Sequence[str]) -> str:
    """A command and its options, a line for each pair."""
    pairs = [shlex.join(options[start : start + 2]) for start in range(0, len(options), 2)]
    return " \\\n  ".join([shlex.join(command), *pairs])
