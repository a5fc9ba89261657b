"""A program that stands in for `tensorflow_model_server`: it prints the real one's lines, and serves no model.

It loads what --model_config_file names: a version whose saved_model.pb is a protocol buffer becomes AVAILABLE in the
status over REST, another one stays LOADING, as the real server (2.21) has it between its retries. Facts and texts:
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/main.cc and util/retrier.cc.
SIMULATED_MOUNTS, JSON: the directories of this machine under the names that a container has for them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from google.protobuf import text_format

from serving.apis.messages import ModelConfig, ModelServerConfig

FLAGS = {
    "port": "int32", "rest_api_port": "int32", "rest_api_num_threads": "int32", "model_config_file": "string",
    "model_config_file_poll_wait_seconds": "int32", "allow_version_labels_for_unavailable_models": "bool",
    "enable_batching": "bool", "batching_parameters_file": "string", "monitoring_config_file": "string",
    "ssl_config_file": "string",
}  # fmt: skip
_CPP_LEVELS = "IWEF"


def log(level: str, source: str, message: str) -> None:
    """A line of TensorFlow's log, unless TF_CPP_MIN_LOG_LEVEL is above its level."""
    if _CPP_LEVELS.index(level) >= int(os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0")):
        print(f"2026-03-01 10:20:30.123456: {level} {source}] {message}", file=sys.stderr, flush=True)


def usage() -> str:
    """What follows a wrong flag; the real one has more lines."""
    return "\n".join(["usage: tensorflow_model_server", "Flags:", *(f"\t--{name}\t{FLAGS[name]}" for name in FLAGS)])


def parsed(arguments: list[str]) -> dict[str, str]:
    """The flags. One that is not known is complained about, and the server goes on; a wrong value ends it."""
    values, unknown = {}, []
    for argument in arguments:
        name, _, text = argument.removeprefix("--").partition("=")
        if argument == "--help":
            print(usage(), flush=True)
            sys.exit(255)
        if name not in FLAGS:
            unknown.append(argument)
        elif FLAGS[name] == "int32" and not text.lstrip("-").isdigit():
            log("E", "external/org_tensorflow/tensorflow/core/util/command_line_flags.cc:52",
                f"Couldn't interpret value {text} for flag {name}.")  # fmt: skip
            print(usage(), flush=True)
            sys.exit(255)
        values[name] = text
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{usage()}", flush=True)
    return values


def here(path: str) -> Path:
    """Where a path of the server's lies on this machine."""
    for inside, outside in json.loads(os.environ.get("SIMULATED_MOUNTS", "{}")).items():
        if path.startswith(inside):
            return Path(outside + path.removeprefix(inside))
    return Path(path)


def load(model: ModelConfig) -> list[dict[str, object]]:
    """Loads the newest two versions, and gives their status as the REST API has it."""
    versions = sorted(int(child.name) for child in here(model.base_path).iterdir() if child.name.isdigit())[-2:]
    statuses: list[dict[str, object]] = []
    for version in reversed(versions):
        servable = f"{{name: {model.name} version: {version}}}"
        log("I", "tensorflow_serving/core/loader_harness.cc:71", f"Approving load for servable version {servable}")
        content = (here(model.base_path) / str(version) / "saved_model.pb").read_bytes()
        # The first field of a SavedModel is its schema version.
        loads = content.startswith(b"\x08")
        if loads:
            log("I", "tensorflow_serving/core/loader_harness.cc:96", f"Successfully loaded servable version {servable}")
        else:
            log("E", "tensorflow_serving/util/retrier.cc:40",
                f"Loading servable: {servable} failed: OUT_OF_RANGE: Read less bytes than requested")  # fmt: skip
        state = "AVAILABLE" if loads else "LOADING"
        status = {"error_code": "OK", "error_message": ""}
        statuses.append({"version": str(version), "state": state, "status": status})
    return statuses


def main() -> None:
    """Runs until it is killed. The REST port opens when a version is AVAILABLE."""
    # Written before any log level is read.
    print("I0000 00:00:1772360430.123456 1 cudart_stub.cc:31] Could not find cuda drivers on your machine, "
          "GPU will not be used.", file=sys.stderr, flush=True)  # fmt: skip
    flags = parsed(sys.argv[1:])
    text = here(flags["model_config_file"]).read_text()
    [model] = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    statuses = load(model)
    if all(status["state"] != "AVAILABLE" for status in statuses):
        threading.Event().wait()

    class Status(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"model_version_status": statuses}).encode())

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    HTTPServer(("127.0.0.1", int(flags["rest_api_port"])), Status).serve_forever()


if __name__ == "__main__":
    main()
