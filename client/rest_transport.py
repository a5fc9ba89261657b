"""TF Serving's REST API as a Transport (https://www.tensorflow.org/tfx/serving/api_rest)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from client.address import ServerAddress
from client.errors import code_of_http_status, server_error
from client.transport import Array, ModelSpec, VersionStatus


class RestTransport:
    """A pool of HTTP/1.1 connections that all threads share."""

    def __init__(self, address: ServerAddress) -> None:
        # trust_env off: a proxy in the environment must not see requests that are meant for this very address.
        self._http = httpx.Client(base_url=f"http://{address.target}", trust_env=False)

    def predict(
        self, model: ModelSpec, signature_name: str, inputs: Mapping[str, Array], *, timeout: float
    ) -> dict[str, Array]:
        """See Transport. The column format, whose answer names every output unless there is only one."""
        body = {
            "signature_name": signature_name,
            "inputs": {name: array.tolist() for name, array in inputs.items()},
        }
        answer = self._call("POST", f"{_path(model)}:predict", timeout, body)
        outputs = answer.get("outputs")
        named = outputs if isinstance(outputs, dict) else {"": outputs}
        return {name: _array(values) for name, values in named.items()}

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """See Transport."""
        answer = self._call("GET", _path(model), timeout)
        return [
            VersionStatus(
                version=int(entry["version"]),
                state=entry["state"],
                error_code=entry["status"].get("error_code", "OK"),
                error_message=entry["status"].get("error_message", ""),
            )
            for entry in answer["model_version_status"]
        ]

    def close(self) -> None:
        """See Transport."""
        self._http.close()

    def _call(self, method: str, path: str, timeout: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            response = self._http.request(method, path, content=content, timeout=timeout)
        except httpx.TimeoutException as error:
            raise server_error("DEADLINE_EXCEEDED", f"no answer within {timeout:g} s") from error
        except httpx.HTTPError as error:
            raise server_error("UNAVAILABLE", f"{self._http.base_url}: {error}") from error
        answer = _json_object(response)
        if response.status_code != httpx.codes.OK:
            details = answer.get("error", f"HTTP status {response.status_code}")
            raise server_error(code_of_http_status(response.status_code), str(details))
        return answer


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError as error:
        if response.status_code != httpx.codes.OK:
            return {}
        raise server_error("INTERNAL", "the answer is not JSON: is this TF Serving's REST port?") from error
    if not isinstance(answer, dict):
        raise server_error("INTERNAL", "the answer is not a JSON object: is this TF Serving's REST port?")
    return answer


def _path(model: ModelSpec) -> str:
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        return f"{path}/versions/{model.version}"
    if model.version_label is not None:
        return f"{path}/labels/{quote(model.version_label, safe='')}"
    return path


def _array(values: object) -> Array:
    array = np.asarray(values)
    if array.dtype.kind != "U":
        return array
    return np.char.encode(array, "utf-8").astype(object)
