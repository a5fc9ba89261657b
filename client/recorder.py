"""Requests and answers recorded at the client, for servers that cannot record themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import ClientError, ClientUsageError
from serving.apis.recording_files import RecordingFile
from serving.apis.recordings import RecordingError, prediction_log

if TYPE_CHECKING:
    from google.protobuf.message import Message


class Recorder:
    """A new file of the Predict requests of any number of connections, as sent, and their answers, as received.

    The format is that of the server's recordings: PredictionLog messages in TFRecord, for their owner only. Over
    REST an answer does not say which version gave it: ask for one by its number where that matters. A context manager,
    safe to share between threads; whoever makes it closes it. path: of a file that is not there. Raises
    ClientUsageError when it is, or cannot be made.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            self._file = RecordingFile(Path(path))
        except RecordingError as error:
            raise ClientUsageError(str(error)) from error

    def write(self, request: Message, response: Message) -> None:
        """Adds a request and its answer. Raises ClientError when there is no room for them."""
        try:
            self._file.write(prediction_log(request, response))
        except RecordingError as error:
            raise ClientError(f"{error}: make room, or record less") from error

    def close(self) -> None:
        """Ends the file; one without a record is removed, so that its name can be given again."""
        self._file.close()
        if not self._file.size:
            self._file.path.unlink(missing_ok=True)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
