"""A program that stands in for `docker`: its only image is the simulated model server, which no container holds.

It knows the commands that `fashion serve` gives. SIMULATED_ENGINE: a directory for what runs detached.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("model_server.py")


def options(arguments: list[str], name: str) -> list[str]:
    """The values of an option that may be given several times."""
    return [argument.partition("=")[2] for argument in arguments if argument.startswith(f"--{name}=")]


def run(arguments: list[str]) -> None:
    """`docker run`: the server with the ports and the directories that the container would have."""
    image = next(number for number, argument in enumerate(arguments) if not argument.startswith("--"))
    own, flags = arguments[:image], arguments[image + 1 :]
    mounts = {inside: outside for outside, inside, _ in (volume.split(":") for volume in options(own, "volume"))}
    ports = {"8500": "0", "8501": "0"}
    ports |= {inside: outside for _, outside, inside in (port.split(":") for port in options(own, "publish"))}
    os.environ["SIMULATED_MOUNTS"] = json.dumps(mounts)
    command = [sys.executable, str(SERVER), f"--port={ports['8500']}", f"--rest_api_port={ports['8501']}", *flags]
    if "--detach" not in own:
        os.execv(sys.executable, command)  # noqa: S606 - as the engine's client, it is the process that is signalled
    name = options(own, "name")[0]
    with state(name, "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    state(name, "pid").write_text(str(process.pid))


def state(name: str, kind: str) -> Path:
    """The file with the log, or with the process id, of a detached container."""
    return Path(os.environ["SIMULATED_ENGINE"]) / f"{name}.{kind}"


def main() -> None:
    """Runs one command."""
    command, *arguments = sys.argv[1:]
    name = arguments[-1] if arguments else ""
    if command == "run":
        run(arguments)
    elif command == "inspect":
        process = Path("/proc") / state(name, "pid").read_text() / "cmdline"
        print(str(process.exists() and process.read_bytes() != b"").lower())
    elif command == "logs":
        print(state(name, "log").read_text(), end="")
    elif command == "stop" and state(name, "pid").exists():
        os.kill(int(state(name, "pid").read_text()), signal.SIGTERM)
    elif command == "rm":
        state(name, "pid").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
