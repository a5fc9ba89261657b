"""--require_signature: what no trusted key signed never becomes AVAILABLE, and the version before it serves on."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import httpx
import pytest

from fashion_common.layout import LITE_MODEL_FILE, SAVED_MODEL_FILE
from serving.embedded.flags import Flags
from serving.embedded.inference.model import Servable
from serving.embedded.loading.load import version_load
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.options import signature_check
from serving.errors import FailedPrecondition, ServerConfigError
from tests.serving.embedded.loading.test_hostile_versions import in_state, states, status
from tests.support.fakes import FakeServable
from tests.support.keys import key_pair, write_version
from tests.support.live import Server, running, wait_until


def lines_about(server: Server, number: int) -> list[str]:
    """The lines of a server's log that name a version."""
    return [line for line in server.log.read_text().splitlines() if f"version: {number}}}" in line]


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_signature_is_checked_once_the_files_are_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_checked: bool
) -> None:
    """So that a file that changes after its digest was taken is seen; other versions are not waited for."""
    done: list[str] = []
    at_rest = VersionDirectory.at_rest

    def note(directory: VersionDirectory) -> object:
        done.append("at rest")
        return at_rest(directory)

    def check(_: VersionDirectory) -> None:
        done.append("checked")

    monkeypatch.setattr(VersionDirectory, "at_rest", note)
    (tmp_path / "1").mkdir()
    load = version_load(lambda _: FakeServable(1), check_signature=check if is_checked else None, iterations=0)
    load("m", 1, VersionDirectory(tmp_path / "1"))
    assert done[:2] == (["at rest", "checked"] if is_checked else [])


@pytest.mark.parametrize("runtime", ["tensorflow", "litert"])
def test_only_signed_versions_become_available(toys: Path, lite_toys: Path, tmp_path: Path, runtime: str) -> None:
    """On both runtimes; a signature that comes later is seen, and one of two keys is enough."""
    old, new, stranger = (key_pair(tmp_path, name) for name in ("old", "new", "stranger"))
    model = (toys if runtime == "tensorflow" else lite_toys) / "half_plus_two" / "1"
    base = tmp_path / "m"
    shutil.copytree(model, base / "1")
    old.sign(base / "1")
    flags = (f"--model_base_path={base}", "--model_name=m", "--file_system_poll_wait_seconds=0.05")
    required = f"--require_signature={old.public},{new.public}"
    with running(*flags, required, f"--runtime={runtime}", "--max_num_load_retries=0") as server:
        assert states(server) == {1: "AVAILABLE"}
        assert f"files are as signed with {old.public}" in server.log.read_text()
        spoilt = {
            2: "the version is not signed: it has no model.sig",
            3: f"{SAVED_MODEL_FILE if runtime == 'tensorflow' else LITE_MODEL_FILE} is not the file that was signed",
            4: "model.sig was not made by a key that is trusted here",
        }
        for number, text in spoilt.items():
            aside = tmp_path / str(number)
            shutil.copytree(model, aside)
            if number == 3:
                new.sign(aside)
                with (aside / text.partition(" ")[0]).open("ab") as file:
                    file.write(b"\0")
            if number == 4:
                stranger.sign(aside)
            aside.rename(base / str(number))
            wait_until(partial(in_state, server, number, "END"))
            error = status(server)[number]["status"]
            assert (error["error_code"], text in error["error_message"]) == ("FAILED_PRECONDITION", True), error
            # The state changes a moment before the log.
            wait_until(partial(lines_about, server, number))
            lines = lines_about(server, number)
            assert len(lines) == 1
            assert f"failed to load: --require_signature: {text}" in lines[0]
        answer = httpx.post(f"http://{server.rest}/v1/models/m:predict", json={"instances": [2.0]})
        assert (states(server)[1], answer.json()) == ("AVAILABLE", {"predictions": [{"bias": 2.0, "y": 3.0}]})

        new.sign(base / "4")
        wait_until(partial(in_state, server, 4, "AVAILABLE"))


def test_files_that_change_while_they_are_loaded(tmp_path: Path) -> None:
    """What was verified must be what was loaded, with a manifest or without."""
    pair = key_pair(tmp_path, "release")
    version = write_version(tmp_path / "1", {SAVED_MODEL_FILE: b"graph"})
    pair.sign(version)
    closed: list[bool] = []

    class Runtime:
        """A servable without signatures."""

        signatures: dict[str, object] = {}  # noqa: RUF012
        runtime = "none"
        loop_free: frozenset[str] = frozenset()

        def run(self, feeds: object, fetches: object) -> list[object]:
            raise NotImplementedError

        def close(self) -> None:
            closed.append(True)

    def load(directory: VersionDirectory) -> Servable:
        (directory.local_path() / SAVED_MODEL_FILE).write_bytes(b"other")
        return Runtime()  # type: ignore[return-value]

    check = signature_check(Flags(require_signature=str(pair.public)))
    with pytest.raises(FailedPrecondition, match="files changed while it was loaded"):
        version_load(load, check_signature=check)("m", 1, VersionDirectory(version))
    assert closed


def test_a_change_in_the_tick_of_the_last_one_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at when the file system's clock has gone on since; those that never rest are refused."""
    version = write_version(tmp_path / "1")
    directory = VersionDirectory(version)
    fingerprint = directory.at_rest()
    (version / SAVED_MODEL_FILE).write_bytes(b"grapf")
    assert directory.current()[0] not in (fingerprint, None)
    monkeypatch.setattr("serving.embedded.models.storage._LOOKS", 0)
    with pytest.raises(FailedPrecondition, match="go on changing"):
        directory.at_rest()


def test_keys_that_cannot_be_read(tmp_path: Path) -> None:
    """They end the start, with the file's name; without the flag nothing is checked."""
    with pytest.raises(ServerConfigError, match=r"--require_signature: the public key .*none\.pub cannot be read"):
        signature_check(Flags(require_signature=str(tmp_path / "none.pub")))
    assert signature_check(Flags()) is None
