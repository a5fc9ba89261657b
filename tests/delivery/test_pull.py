"""`fashion pull`: what is at the source is here whole, or not at all."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from delivery.address import without_secrets
from delivery.commands.pull import progress_line
from delivery.errors import DeliveryError
from delivery.pull import PRESENT, PULLED, REFUSED, Outcome, Puller, Source, watch
from delivery.verification import public_keys
from fashion_common.labels import labels_writer, read_labels
from fashion_common.layout import MANIFEST_FILE, SAVED_MODEL_FILE
from tests.support.keys import KeyPair, key_pair, write_version
from tests.support.sources import LARGE, PIECE, Memory, local_files, memory, put, version_files  # noqa: F401

SOURCE = "flaky://bucket/fashion_mnist"
# As the file system has it.
SHOWN = "flaky:///bucket/fashion_mnist"
pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    """The trusted pair."""
    return key_pair(tmp_path, "release")


def pull(*arguments: object) -> Result:
    """`fashion pull`."""
    return CliRunner().invoke(fashion, ["pull", *map(str, arguments)])


def hidden(base: Path) -> list[str]:
    """What is on its way under a model base path, or left there."""
    return sorted(path.name for path in base.iterdir() if path.name.startswith("."))


def test_the_newest_version_comes_whole(tmp_path: Path) -> None:
    """With the digests of its manifest; what is here already is not read again."""
    put(1, version_files())
    files = put(2, version_files())
    result = pull(SOURCE, "--to", tmp_path)
    path = tmp_path / "fashion_mnist/2"
    assert (result.exit_code, result.output) == (0, f"{path}: SHA-256 as in its manifest\n")
    assert local_files(path) == files
    assert [child.name for child in path.parent.iterdir()] == ["2"]
    Memory.reads.clear()
    result = pull(SOURCE, "--to", tmp_path)
    assert (result.exit_code, result.output, Memory.reads) == (0, f"{path} is there already\n", {})


@pytest.mark.parametrize("kind", ["memory", "file", "path"])
def test_file_systems_of_fsspec(tmp_path: Path, kind: str) -> None:
    """fsspec's own file system in memory; this machine's, by address and by path."""
    files = version_files()
    if kind == "memory":
        address = "memory://a-bucket/fashion_mnist"
        fsspec.filesystem("memory").pipe({f"/a-bucket/fashion_mnist/7/{name}": data for name, data in files.items()})
    else:
        write_version(tmp_path / "source/fashion_mnist/7", files)
        address = f"{'file://' if kind == 'file' else ''}{tmp_path}/source/fashion_mnist"
    result = pull(address, "--to", tmp_path / "models")
    assert (result.exit_code, local_files(tmp_path / "models/fashion_mnist/7")) == (0, files), result.stderr


def test_one_version_by_its_address(tmp_path: Path) -> None:
    """Whether it is the newest or not, as JSON."""
    files = put(1, version_files())
    put(2, version_files())
    result = pull(f"{SOURCE}/1", "--to", tmp_path, "--json")
    path = tmp_path / "fashion_mnist/1"
    assert json.loads(result.output) == {
        "version": 1,
        "path": str(path),
        "state": "pulled",
        "digests": True,
        "key": None,
        "reason": None,
    }
    assert local_files(path) == files


def test_a_version_of_no_export_is_taken_and_said_to_be_one(tmp_path: Path) -> None:
    """It has no manifest, so only sizes are compared."""
    files = put(3, version_files(manifest=False))
    result = pull(SOURCE, "--to", tmp_path)
    assert result.output == f"{tmp_path}/fashion_mnist/3: no manifest: only sizes compared\n"
    assert local_files(tmp_path / "fashion_mnist/3") == files


def test_a_cut_connection_goes_on_where_it_was(tmp_path: Path) -> None:
    """Within a command as long as something comes, and by the same command: no byte is read twice."""
    files = put(1, version_files())
    Memory.cut_after = len(files[MANIFEST_FILE]) + len(files[SAVED_MODEL_FILE]) + PIECE
    result = pull(SOURCE, "--to", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    place = f"{SHOWN}/1/{LARGE}"
    reason = f"ConnectionResetError: https://host/bucket/fashion_mnist/1/{LARGE}? was cut"
    assert result.stderr == f"Error: {place} cannot be read: {reason}\n"
    aside = tmp_path / "fashion_mnist/.pull-1/version"
    assert (aside / LARGE).read_bytes() == files[LARGE][:PIECE]
    assert hidden(tmp_path / "fashion_mnist") == [".pull-1"]
    Memory.cut_after = None
    assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    assert Memory.reads == {f"1/{name}": len(content) for name, content in files.items()}
    assert local_files(tmp_path / "fashion_mnist/1") == files
    assert hidden(tmp_path / "fashion_mnist") == []


def test_a_connection_that_is_cut_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command ends when nothing has come three times in a row, and not before."""
    files = put(1, version_files(size=20 * PIECE))
    cuts = 0

    def refill(_seconds: float) -> None:
        nonlocal cuts
        cuts += 1
        Memory.cut_after = 2 * PIECE

    monkeypatch.setattr("delivery.pull.time.sleep", refill)
    Memory.cut_after = 2 * PIECE
    assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    assert cuts > 5
    assert local_files(tmp_path / "fashion_mnist/1") == files


def test_pauses_between_cuts_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By half a second, until nothing has come three times in a row; when something comes they begin anew."""
    put(1, version_files(manifest=False))
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            Memory.cut_after = PIECE

    monkeypatch.setattr("delivery.pull._PAUSE_SECONDS", 0.5)
    monkeypatch.setattr("delivery.pull.time.sleep", wait)
    Memory.cut_after = 5
    assert pull(SOURCE, "--to", tmp_path).exit_code == 1
    assert pauses == [0.5, 1.0, 0.5, 1.0]


def test_a_half_of_another_file_is_begun_anew(tmp_path: Path) -> None:
    """What changed since the cut is dropped by its stamp; bytes that are wrong all the same, by their digest."""
    put(1, version_files())
    Memory.cut_after = 2500
    assert pull(SOURCE, "--to", tmp_path).exit_code == 1
    files = put(1, version_files(b"2"))
    partial = tmp_path / "fashion_mnist/.pull-1/version" / LARGE
    Memory.cut_after = 2500
    assert pull(SOURCE, "--to", tmp_path).exit_code == 1
    partial.write_bytes(b"x" * PIECE)
    Memory.cut_after = None
    assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    assert local_files(tmp_path / "fashion_mnist/1") == files


def test_a_version_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """It is read again; one that changes every time is refused."""
    put(1, version_files())
    Memory.changes.append(lambda: put(1, version_files(b"2")))
    result = pull(SOURCE, "--to", tmp_path)
    assert result.exit_code == 0
    here = local_files(tmp_path / "fashion_mnist/1")
    assert here[SAVED_MODEL_FILE] == b"graph2"

    put(2, version_files(manifest=False))
    Memory.changes.extend([lambda: put(2, version_files(manifest=False))] * 100)
    result = pull(SOURCE, "--to", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == "Version 2 is refused: it changes while it is read\n"
    assert not (tmp_path / "fashion_mnist/2").exists()


SIGNAL_IN_A_CALLBACK = """
import signal, weakref
from client.cli import main
from delivery.pull import Puller

class Garment:
    pass

def look(puller):
    garment = Garment()
    callback = weakref.ref(garment, lambda _: signal.raise_signal(signal.SIGTERM))
    print("looks", flush=True)
    del garment
    yield from ()

Puller.look = look
main()
"""
HOSTILE_MANIFEST = json.dumps({"files": {"a\x1b[2J\nb\ud800": {"sha256": ""}}}).encode()
SPOILT: dict[str, Callable[[], object]] = {
    f"{LARGE} is not the file that was exported (SHA-256 differs)": lambda: put(2, {LARGE: b"x" * 3500}),
    f"{LARGE}, which its manifest names, is not there: it may still be on its way": lambda: Memory().rm(
        f"/bucket/fashion_mnist/2/{LARGE}"
    ),
    "it holds none of saved_model.pb, saved_model.pbtxt, model.tflite: it may still be on its way": lambda: Memory().rm(
        f"/bucket/fashion_mnist/2/{SAVED_MODEL_FILE}"
    ),
    f"{MANIFEST_FILE} is damaged (JSONDecodeError: Expecting value: line 1 column 1 (char 0))": lambda: put(
        2, {MANIFEST_FILE: b"?"}
    ),
    r"a\x1b[2J\nb\ud800, which its manifest names, is not there: it may still be on its way": lambda: put(
        2, {MANIFEST_FILE: HOSTILE_MANIFEST}
    ),
    "'../3/saved_model.pb' is no name of a file in a version": lambda: Memory.store.update(
        {"/bucket/fashion_mnist/2/../3/saved_model.pb": Memory.store[f"/bucket/fashion_mnist/2/{SAVED_MODEL_FILE}"]}
    ),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_a_version_that_cannot_be_taken(tmp_path: Path, reason: str) -> None:
    """It is refused with the reason, and the one before it is taken; where there is none, the exit code is 1."""
    put(1, version_files())
    put(2, version_files())
    SPOILT[reason]()
    result = pull(SOURCE, "--to", tmp_path)
    assert (result.exit_code, result.stderr) == (0, f"Version 2 is refused: {reason}\n")
    assert pull(f"{SOURCE}/2", "--to", tmp_path).exit_code == 1
    assert result.stdout == f"{tmp_path}/fashion_mnist/1: SHA-256 as in its manifest\n"
    assert sorted(path.name for path in (tmp_path / "fashion_mnist").glob("[!.]*")) == ["1"]


def test_only_signed_versions_are_taken(tmp_path: Path, keys: KeyPair) -> None:
    """What is here unsigned is told too; nothing of a refused version stays."""
    signed = write_version(tmp_path / "signed", version_files())
    keys.sign(signed)
    put(1, local_files(signed))
    put(2, version_files())
    result = pull(SOURCE, "--to", tmp_path, "--public-key", keys.public)
    unsigned = "Version 2 is refused: the version is not signed: it has no model.sig\n"
    assert (result.exit_code, result.stderr) == (0, unsigned)
    assert result.stdout == f"{tmp_path}/fashion_mnist/1: SHA-256 as in its manifest, signed with {keys.public}\n"
    assert hidden(tmp_path / "fashion_mnist") == []
    assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    result = pull(SOURCE, "--to", tmp_path, "--public-key", keys.public)
    assert (result.exit_code, result.stderr) == (0, unsigned)


def labels(**versions: int) -> None:
    """The labels at the source."""
    content = json.dumps({"labels": versions, "history": []}).encode()
    Memory().pipe_file("/bucket/fashion_mnist/labels.json", content)


def test_labels_come_with_the_versions_that_they_use(tmp_path: Path) -> None:
    """They replace those that are here, as they have one home; one whose version is gone changes nothing."""
    for number in (1, 2, 3):
        put(number, version_files())
    labels(stable=1)
    base = tmp_path / "fashion_mnist"
    result = pull(SOURCE, "--to", tmp_path)
    assert result.exit_code == 0
    assert sorted(path.name for path in base.glob("[!.]*")) == ["1", "3", "labels.json"]
    assert read_labels(base).moved == {"stable": 1}
    with labels_writer(base) as writer:
        writer.move({"stable": 3}, action="label")
    assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    assert read_labels(base).moved == {"stable": 1}
    labels(stable=9)
    result = pull(SOURCE, "--to", tmp_path)
    note = "Note: the labels stay as they are here: version 9, which one names, is not there\n"
    assert (result.exit_code, result.stderr) == (0, note)
    assert read_labels(base).moved == {"stable": 1}
    Memory().pipe_file("/bucket/fashion_mnist/labels.json", bytes(16 * 2**20 + 1))
    result = pull(SOURCE, "--to", tmp_path)
    assert (result.exit_code, "has 16777217 bytes, and may have 16 MiB" in result.stderr) == (1, True)
    put(4, version_files())
    Memory().pipe_file("/bucket/fashion_mnist/labels.json", bytes(16 * 2**20))
    result = pull(SOURCE, "--to", tmp_path)
    assert (result.exit_code, "stay as they are here: labels.json is damaged" in result.stderr) == (0, True)
    assert (base / "4").is_dir()
    assert read_labels(base).moved == {"stable": 1}


def test_old_versions_stay_unless_they_are_to_go(tmp_path: Path) -> None:
    """--keep is that of `fashion export`: what labels use stays."""
    base = tmp_path / "fashion_mnist"
    for number in (1, 2, 3):
        put(number, version_files())
        assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    assert sorted(path.name for path in base.iterdir()) == ["1", "2", "3"]
    labels(stable=1)
    assert pull(SOURCE, "--to", tmp_path, "--keep", "1").exit_code == 0
    assert sorted(path.name for path in base.glob("[!.]*")) == ["1", "3", "labels.json"]


@pytest.mark.parametrize(
    ("source", "exit_code", "text"),
    [
        ("nowhere://user:secret@host/m", 2, "nowhere://host/m: Protocol not known: nowhere: pip install what it names"),
        ("flaky://bucket/none", 1, "flaky:///bucket/none: there is no such file or directory"),
        ("flaky://", 2, "names no model: give one such as s3://bucket/fashion_mnist"),
        ("flaky://bucket/empty", 1, "flaky:///bucket/empty holds no version: they have numbers for names"),
        ("flaky://bucket/model", 2, "holds a model itself: a version is named as flaky:///bucket/model/1"),
    ],
)
def test_sources_that_cannot_be(tmp_path: Path, source: str, exit_code: int, text: str) -> None:
    """Each error is one line, without a password."""
    Memory().pipe_file("/bucket/empty/readme", b"")
    Memory().pipe_file("/bucket/model/saved_model.pb", b"")
    result = pull(source, "--to", tmp_path)
    assert (result.exit_code, text in result.stderr) == (exit_code, True), result.stderr
    assert "secret" not in result.output


def test_a_file_system_that_connects_at_once(tmp_path: Path) -> None:
    """And cannot: as when a read fails, and without a password."""

    class Eager(Memory):
        """Fails when it is made."""

        protocol = "eager"

        def __init__(self, **_: object) -> None:
            raise ConnectionRefusedError("eager://user:secret@host refused")

    fsspec.register_implementation("eager", Eager, clobber=True)
    result = pull("eager://user:secret@host/m", "--to", tmp_path)
    text = "Error: eager://host/m cannot be read: ConnectionRefusedError: eager://host refused\n"
    assert (result.exit_code, result.stderr) == (1, text)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """The error names the directory."""
    put(1, version_files())
    (tmp_path / "fashion_mnist").write_text("a file")
    result = pull(SOURCE, "--to", tmp_path)
    assert (result.exit_code, f"{tmp_path}/fashion_mnist cannot be written: File exists" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pw@host/a b", "https://host/a b"),
        ("at s3://key@bucket/a.", "at s3://bucket/a."),
        ("get https://host/a?X-Amz-Signature=1&b=2: no", "get https://host/a?: no"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("models/fashion_mnist", "models/fashion_mnist"),
    ],
)
def test_texts_without_secrets(text: str, shown: str) -> None:
    """What an address carries before its host and behind its `?` is not printed."""
    assert without_secrets(text) == shown


def test_watching(tmp_path: Path) -> None:
    """New versions and refusals are told once, failures once in a line, with growing pauses; then it goes on."""
    put(1, version_files())
    told: list[tuple[int, str]] = []
    complaints: list[str] = []
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        look = len(pauses)
        if look == 2:
            put(2, {SAVED_MODEL_FILE: b"half", MANIFEST_FILE: version_files()[MANIFEST_FILE]})
        if look in (3, 8):
            put(2, version_files())
            Memory().mv("/bucket", "/elsewhere", recursive=True) if look == 3 else None
        if look == 6:
            Memory().mv("/elsewhere", "/bucket", recursive=True)
        return look == 9

    puller = Puller(Source(SOURCE), tmp_path)
    watch(puller, 1, wait, lambda outcome: told.append((outcome.version, outcome.state)), complaints.append)
    assert told == [(1, PULLED), (2, REFUSED), (2, PULLED)]
    assert complaints == [f"{SHOWN}: there is no such file or directory: trying again"]
    assert pauses == [1, 1, 1, 2, 4, 8, 1, 1, 1]


@pytest.mark.parametrize(("interval", "last"), [(1.0, [128, 256, 300, 300]), (600.0, [600, 600, 600, 600])])
def test_pauses_grow_to_five_minutes(tmp_path: Path, interval: float, last: list[float]) -> None:
    """While the source is away, and are no shorter than the interval."""
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 10

    watch(Puller(Source(SOURCE), tmp_path), interval, wait, lambda _: None, lambda _: None)
    assert pauses[-4:] == last


def test_what_was_refused_is_not_read_again(tmp_path: Path, keys: KeyPair) -> None:
    """Until its files change."""
    put(1, version_files())
    puller = Puller(Source(SOURCE), tmp_path, public_keys([keys.public]))
    first, second = ([*puller.look()] for _ in range(2))
    assert first == second
    assert (first[0].state, sum(Memory.reads.values())) == (REFUSED, _size(1))
    signed = write_version(tmp_path / "signed", {SAVED_MODEL_FILE: b"graph"})
    keys.sign(signed)
    Memory().rm("/bucket/fashion_mnist/1", recursive=True)
    put(1, local_files(signed))
    assert [[outcome.state for outcome in puller.look()] for _ in range(3)][-1] == [PRESENT]


def _size(number: int) -> int:
    files = Memory().find(f"/bucket/fashion_mnist/{number}", detail=True).values()
    return sum(file["size"] for file in files)


def test_how_far_it_is_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that moves, and is gone at the end; nothing where nobody looks."""
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    progress_line()(3, 1_500_000, 3_000_000)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    show = progress_line()
    show(3, 1_500_000, 3_000_000)
    show(3, 3_000_000, 3_000_000)
    assert terminal.getvalue() == "\r\x1b[KVersion 3: 1.5 of 3.0 MB\r\x1b[K"


def test_how_far_it_is_moves_five_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most; the end of a version is shown whatever the time."""
    terminal = io.StringIO()
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("delivery.commands.pull.time", SimpleNamespace(monotonic=lambda: clock.now))
    show = progress_line()
    for now, done in ((100.0, 1), (100.125, 2), (100.25, 3), (100.375, 4), (100.5, 5), (100.5, 3000)):
        clock.now = now
        show(3, done * 1_000_000, 3_000_000_000)
    lines = terminal.getvalue().split("\r\x1b[K")
    assert lines == ["", *(f"Version 3: {done}.0 of 3,000.0 MB" for done in (1, 3, 5)), ""]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watch_ends_with_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """SIGTERM or Ctrl-C, with exit code 0: what happens is told until then, and whoever had the signals has them."""
    put(1, version_files())
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            put(2, {SAVED_MODEL_FILE: b"half", MANIFEST_FILE: version_files()[MANIFEST_FILE]})
        if len(pauses) == 2:
            Memory().mv("/bucket", "/elsewhere", recursive=True)
        if len(pauses) == 3:
            signal.raise_signal(number)

    monkeypatch.setattr("delivery.commands.pull.time.sleep", wait)
    monkeypatch.setattr("delivery.commands.pull.os._exit", sys.exit)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    result = pull(SOURCE, "--to", tmp_path, "--watch", "--json")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert result.exit_code == 0
    assert [(line["version"], line["state"]) for line in map(json.loads, result.stdout.splitlines())] == [
        (1, PULLED),
        (2, REFUSED),
    ]
    assert result.stderr == f"Note: {SHOWN}: there is no such file or directory: trying again\n"
    assert pauses == [30, 30, 60]


def test_a_signal_is_not_lost_in_a_callback(tmp_path: Path) -> None:
    """SIGTERM ends a watch wherever it comes: what a callback raises is ignored by Python, and the watch went on."""
    command = [sys.executable, "-c", SIGNAL_IN_A_CALLBACK, "pull", str(tmp_path / "model"), "--watch", "--interval=0.1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "looks\n", "")


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        (["--keep", "0"], 2),
        (["--keep", "1"], 0),
        (["--interval", "0"], 2),
        (["--interval", "0.1"], 0),
        (["--public-key", "."], 2),
    ],
)
def test_the_range_of_each_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], exit_code: int
) -> None:
    """One version at least stays, and a look takes some time; models go to `models` unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    put(1, version_files())
    assert pull(SOURCE, *options).exit_code == exit_code
    assert (tmp_path / "models/fashion_mnist/1").is_dir() == (exit_code == 0)


def test_a_version_without_a_manifest_is_watched_until_it_rests(tmp_path: Path) -> None:
    """Two looks must see the same; who fetches once takes what is there."""
    put(1, version_files())
    looks = 0
    states: list[str] = []

    def wait(_seconds: float) -> bool:
        nonlocal looks
        looks += 1
        if looks <= 3:
            put(2, {SAVED_MODEL_FILE: b"graph", f"variables/{looks}": b""})
        states.append("here" if (tmp_path / "fashion_mnist/2").exists() else "not yet")
        return looks == 6

    watch(Puller(Source(SOURCE), tmp_path), 1, wait, lambda _: None, pytest.fail)
    assert states == ["not yet"] * 4 + ["here"] * 2
    assert sorted(local_files(tmp_path / "fashion_mnist/2")) == [
        SAVED_MODEL_FILE,
        "variables/1",
        "variables/2",
        "variables/3",
    ]


def test_two_at_a_time(tmp_path: Path) -> None:
    """The second one says so, and leaves the first one's files alone."""
    put(1, version_files())
    first = Puller(Source(SOURCE), tmp_path)
    failures: list[str] = []

    def second() -> None:
        with pytest.raises(DeliveryError) as error:
            list(Puller(Source(SOURCE), tmp_path).look())
        failures.append(str(error.value))

    Memory.changes.append(second)
    assert [outcome.state for outcome in first.look()] == [PULLED]
    assert failures == [f"version 1 is being fetched to {tmp_path}/fashion_mnist by another process"]
    assert [outcome.state for outcome in first.look()] == [PRESENT]


def test_what_a_later_version_makes_needless_is_removed(tmp_path: Path) -> None:
    """The half of an older one."""
    put(1, version_files())
    Memory.cut_after = 2000
    assert pull(SOURCE, "--to", tmp_path).exit_code == 1
    assert hidden(tmp_path / "fashion_mnist") == [".pull-1"]
    Memory.cut_after = None
    put(2, version_files())
    assert pull(SOURCE, "--to", tmp_path).exit_code == 0
    assert hidden(tmp_path / "fashion_mnist") == []


def test_an_outcome_in_words() -> None:
    """One line each."""
    assert (
        str(Outcome(1, "m/1", PULLED, digests=True, key="k.pub"))
        == "m/1: SHA-256 as in its manifest, signed with k.pub"
    )
    assert str(Outcome(1, "m/1", PULLED)) == "m/1: no manifest: only sizes compared"
    assert str(Outcome(1, "m/1", PRESENT, digests=True, key="k.pub")) == "m/1 is there already"
    assert str(Outcome(1, "m/1", REFUSED, reason="no")) == "Version 1 is refused: no"
