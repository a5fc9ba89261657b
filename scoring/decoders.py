"""Pictures to pixels, here or in processes beside this one: Python decodes one picture at a time in each."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, LifoQueue
from typing import IO, Any, NamedTuple

from client.errors import ImageError
from client.pictures.images import open_picture, pixels_and_doubt
from client.types import Preprocess
from scoring.errors import ScoringError

# A process takes a third of a second to start: as long as thousands of small pictures.
_LEAST_PICTURES = 1000
# Of one process at a time.
_SHARE_PICTURES = 500


class Picture(NamedTuple):
    """content: of a file, or 784 raw bytes. error: why there is none."""

    name: str
    content: bytes
    error: str = ""
    is_raw: bool = False


# What becomes of pictures: the 784 bytes of each, or why there are none.
Decode = Callable[[Sequence[Picture], Preprocess], list[bytes | str]]


def decoded(pictures: Sequence[Picture], preprocess: Preprocess) -> list[bytes | str]:
    """The pixels of pictures, uint8 [28, 28], or why one has none."""
    return [picture.error or _pixels(picture, preprocess) for picture in pictures]


def _pixels(picture: Picture, preprocess: Preprocess) -> bytes | str:
    if picture.is_raw:
        return picture.content
    try:
        opened = open_picture(io.BytesIO(picture.content), picture.name)
        return pixels_and_doubt(opened, preprocess, doubts=False)[0]
    except ImageError as error:
        return str(error)


class Decoders:
    """Decodes in up to `count` processes, which start when there is enough to do. Threads may share it."""

    def __init__(self, count: int) -> None:
        # Those that run are taken first.
        self._idle: LifoQueue[_Decoder | None] = LifoQueue()
        self._started: list[_Decoder] = []
        for _ in range(count):
            self._idle.put(None)

    def __call__(self, pictures: Sequence[Picture], preprocess: Preprocess) -> list[bytes | str]:
        """As `decoded`. Raises ScoringError when a process has ended."""
        if len(pictures) < _LEAST_PICTURES:
            return decoded(pictures, preprocess)
        decoders = self._take(len(pictures) // _SHARE_PICTURES)
        size = -(-len(pictures) // len(decoders))
        for position, decoder in enumerate(decoders):
            decoder.send(pictures[position * size : (position + 1) * size], preprocess)
        results = [result for decoder in decoders for result in decoder.results()]
        for decoder in decoders:
            self._idle.put(decoder)
        return results

    def _take(self, most: int) -> list[_Decoder]:
        """Those that are idle, one at least."""
        decoders = [self._idle.get()]
        with contextlib.suppress(Empty):
            while len(decoders) < most:
                decoders.append(self._idle.get_nowait())
        return [decoder or self._start() for decoder in decoders]

    def _start(self) -> _Decoder:
        decoder = _Decoder()
        self._started.append(decoder)
        return decoder

    def close(self) -> None:
        """Ends the processes."""
        for decoder in self._started:
            decoder.close()


class _Decoder:
    """A process that runs `main` of this module."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def send(self, pictures: Sequence[Picture], preprocess: Preprocess) -> None:
        names, contents, errors, raw = zip(*pictures, strict=True)
        with self._told():
            _send(self._input, {"preprocess": preprocess, "names": names, "errors": errors, "raw": raw}, contents)

    def results(self) -> list[bytes | str]:
        with self._told():
            head, results = _receive(self._output)
        return [text or content for text, content in zip(head["errors"], results, strict=True)]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Raises a ScoringError for the end of the process."""
        try:
            yield
        except (EOFError, BrokenPipeError) as error:
            code = self._process.wait()
            raise ScoringError(
                f"a process that decodes pictures ended with {code}: run the same command again to go on"
            ) from error

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        self._process.wait()


def main() -> None:
    """Decodes what comes on stdin until it ends."""
    # Ctrl-C reaches the whole group; who started this process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            head, contents = _receive(sys.stdin.buffer)
            columns = (head["names"], contents, head["errors"], head["raw"])
            pictures = [Picture(*fields) for fields in zip(*columns, strict=True)]
            results = decoded(pictures, head["preprocess"])
            errors = [result if isinstance(result, str) else "" for result in results]
            _send(sys.stdout.buffer, {"errors": errors}, [b"" if isinstance(each, str) else each for each in results])


def _send(file: IO[bytes], head: dict[str, Any], contents: Sequence[bytes]) -> None:
    """A line of JSON, and contents of the sizes in it."""
    line = json.dumps({**head, "sizes": [len(content) for content in contents]})
    file.write(b"".join([line.encode(), b"\n", *contents]))
    file.flush()


def _receive(file: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """What `_send` sent. Raises EOFError when the other side has ended."""
    line = file.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    sizes = head.pop("sizes")
    contents = [file.read(size) for size in sizes]
    if [len(content) for content in contents] != sizes:
        raise EOFError
    return head, contents


if __name__ == "__main__":
    main()
