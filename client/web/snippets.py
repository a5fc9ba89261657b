"""A question that the page asked, as a user asks it again: on the command line, in Python, with curl."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from client.calls import calls
from client.errors import ClientUsageError
from client.pictures.batch import Batch
from client.transports import rest_wire
from client.transports.address import ServerAddress
from client.transports.base import Exchange
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Preprocess
from fashion_common.served_model import MODEL_NAME
from serving.apis.signatures import DEFAULT_SIGNATURE

# Where REST is beside gRPC, unless somebody chose another port.
_REST_PORT = 8501
# Of inputs that are given to copy.
_MOST_CHARACTERS = 20_000


@dataclass(frozen=True)
class Reach:
    """How a server is reached: its address and its security."""

    address: ServerAddress
    security: Security

    @property
    def options(self) -> list[str]:
        """The options of `fashion`'s commands; a header's value and the token are left to the user."""
        security = self.security
        files = {
            "--tls-ca": security.ca_file,
            "--tls-certificate": security.certificate_file,
            "--tls-key": security.key_file,
            "--tls-server-name": security.server_name,
        }
        pairs = [(option, str(value)) for option, value in files.items() if value is not None]
        headers = [("--header", f"{name}=...") for name, _ in security.headers]
        if security.token:
            headers.append(("--token-file", "TOKEN_FILE"))
        return [text for pair in [("--server", str(self.address)), *pairs, *headers] for text in pair]

    @property
    def curl(self) -> list[str]:
        """The options of curl."""
        security = self.security
        files = {"--cacert": security.ca_file, "--cert": security.certificate_file, "--key": security.key_file}
        pairs = [(option, str(value)) for option, value in files.items() if value is not None]
        headers = [("-H", f"{name}: ...") for name, _ in security.sent_headers]
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


@dataclass(frozen=True)
class AskedInputs:
    """What any model was asked: a signature by `predict`, `classify` or `regress`, and its inputs by name.

    inputs: as JSON has them, but for bytes. Those of the last two are the list of `examples`.
    """

    model: ModelSpec
    signature_name: str
    method: str
    inputs: Mapping[str, Any]


def snippets(asked: Asked, metadata: Metadata, reach: Reach, answer: Mapping[str, Any]) -> dict[str, str]:
    """The text of each, by the name of its tab; `Answer` is what `fashion predict --json` prints."""
    fields = ("class_id", "class_name", "probability", "probabilities")
    return {
        "fashion predict": _command(asked, reach),
        "Python": _python(asked, reach),
        "curl": _curl(asked, metadata, reach),
        "Answer": json.dumps({"file": asked.name, **{name: answer[name] for name in fields}}, indent=1),
    }


def input_snippets(asked: AskedInputs, metadata: Metadata, reach: Reach) -> dict[str, str]:
    """The text of each, by the name of its tab; none for inputs that are too large to copy."""
    if len(repr(asked.inputs)) > _MOST_CHARACTERS:
        return {}
    method, inputs = ("infer", asked.inputs) if asked.method == "predict" else (asked.method, asked.inputs["examples"])
    asking = f"print(connection.{method}({inputs!r}, signature_name={asked.signature_name!r}))"
    texts = {"Python": _program(reach, asked.model, asking)}
    # JSON has no complex numbers.
    with suppress(TypeError):
        texts = {"fashion call": _call(asked, reach), **texts}
    with suppress(ClientUsageError):
        texts["curl"] = _posted(_request(asked, metadata), reach)
    return texts


def _call(asked: AskedInputs, reach: Reach) -> str:
    """The inputs as options, examples by a pipe. Raises TypeError for what JSON cannot carry."""
    options = [*reach.options, *_model_options(asked.model)]
    if asked.signature_name != DEFAULT_SIGNATURE:
        options += ["--signature", asked.signature_name]
    if asked.method != "predict":
        command = _lines(["fashion", "call"], [*options, "--inputs", "-"])
        return f"printf %s {shlex.quote(_json(asked.inputs))} |\n  {command}"
    inputs = [("--input", f"{name}={_json(value)}") for name, value in asked.inputs.items()]
    return _lines(["fashion", "call"], [*options, *(text for pair in inputs for text in pair)])


def _json(value: Any) -> str:
    """As `fashion call` reads it: bytes are text where they are text, else base64. Raises TypeError."""

    def as_text(item: Any) -> Any:
        try:
            return item.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(item).decode()}
        except AttributeError as error:
            raise TypeError(f"{item} has no JSON form") from error

    return json.dumps(value, default=as_text)


def _model_options(model: ModelSpec) -> list[str]:
    name = [] if model.name == MODEL_NAME else ["--model-name", model.name]
    return [*name, "--model-version", str(model.version)]


def _request(asked: AskedInputs, metadata: Metadata) -> rest_wire.Request:
    """What the client itself sends over REST. Raises ClientUsageError for what REST cannot carry."""
    # Not needed for pictures, which wait for every import.
    from client.examples import classification_request, regression_request
    from client.inputs import call

    exchange: Exchange[Any]
    if asked.method == "predict":
        exchange = rest_wire.infer(asked.model, *call(asked.inputs, metadata, asked.signature_name))
    else:
        request_of = classification_request if asked.method == "classify" else regression_request
        examples = asked.inputs["examples"]
        exchange = rest_wire.message(request_of(asked.model, metadata, asked.signature_name, examples, None))
    request: rest_wire.Request = exchange.request
    return request


def _command(asked: Asked, reach: Reach) -> str:
    preprocess = [] if asked.preprocess == "auto" else ["--preprocess", asked.preprocess]
    # What looks like an option is a file all the same.
    file = f"./{asked.name}" if asked.name.startswith("-") else asked.name
    return _lines(["fashion", "predict", file], [*reach.options, *_model_options(asked.model), *preprocess])


def _python(asked: Asked, reach: Reach) -> str:
    preprocess = "" if asked.preprocess == "auto" else f", preprocess={asked.preprocess!r}"
    return _program(
        reach,
        asked.model,
        f"[prediction] = connection.predict({asked.name!r}{preprocess})",
        "print(prediction.class_name, prediction.probability)",
    )


def _program(reach: Reach, model: ModelSpec, *steps: str) -> str:
    """A program that connects as we do. steps: what it does with the `connection`."""
    security = {
        name: value
        for name in ("ca_file", "certificate_file", "key_file", "server_name")
        if (value := getattr(reach.security, name)) is not None
    }
    given = [f"{name}={_literal(value)}" for name, value in security.items()]
    if reach.security.headers:
        given.append(f"headers={tuple((name, '...') for name, _ in reach.security.headers)!r}")
    if reach.security.token:
        given.append("token='...'")
    secured = f", security=Security({', '.join(given)})" if given else ""
    lines = [
        *(["from pathlib import Path", ""] if "Path(" in secured else []),
        f"from client import ModelSpec, {'Security, ' if given else ''}connect",
        "",
        f"model = ModelSpec({model.name!r}, version={model.version})",
        f"with connect({str(reach.address)!r}, model=model{secured}) as connection:",
        *(f"    {step}" for step in steps),
    ]
    return "\n".join(lines)


def _literal(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"Path({str(value)!r})"


def _curl(asked: Asked, metadata: Metadata, reach: Reach) -> str:
    """What the client itself sends over REST."""
    return _posted(rest_wire.predict(asked.model, functools.partial(calls, asked.batch, metadata, None)).request, reach)


def _posted(request: rest_wire.Request, reach: Reach) -> str:
    body = request.body or b""
    text = (gzip.decompress(body) if "Content-Encoding" in request.headers else body).decode()
    return _lines(["curl", f"{reach.rest_url}{request.path}"], [*reach.curl, "-d", text])


def _lines(command: Sequence[str], options: Sequence[str]) -> str:
    """A command and its options, a line for each pair."""
    pairs = [shlex.join(options[start : start + 2]) for start in range(0, len(options), 2)]
    return " \\\n  ".join([shlex.join(command), *pairs])
