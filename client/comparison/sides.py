"""The two sides of a comparison: a version that a server has, or the answers in a recording."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from client.comparison.questions import Question, RecordedQuestion
from client.connection import Connection
from client.errors import ClientUsageError
from client.types import Prediction
from fashion_common import evidence
from fashion_common.evidence import RECORDED


@dataclass
class LiveSide:
    """A version that answers: `connection` asks for exactly this one, whatever becomes of labels meanwhile."""

    connection: Connection
    side: evidence.Side

    @classmethod
    def of(cls, connection: Connection, name: str, server: str) -> LiveSide:
        """The version that the connection's label, or the lack of one, stands for now. Raises ServerError."""
        version = connection.metadata().version
        connection.model = replace(connection.model, version=version, version_label=None)
        return cls(connection, evidence.Side(name, server, version))

    def answers(self, question: Question) -> list[Prediction]:
        """Asks. Raises ServerError."""
        return question.ask(self.connection)


@dataclass
class RecordedSide:
    """What was answered when a recording was made."""

    _versions: set[int] = field(default_factory=set)

    @property
    def side(self) -> evidence.Side:
        """With the version that answered, where it was one."""
        return evidence.Side(RECORDED, version=next(iter(self._versions)) if len(self._versions) == 1 else None)

    def answers(self, question: Question) -> list[Prediction]:
        """Raises ClientUsageError for a question that is no recorded one, or has no answer."""
        if not isinstance(question, RecordedQuestion):
            raise ClientUsageError(
                f"{question.names[0]} is no record, and {RECORDED} are the answers in a recording: name a version"
            )
        if version := question.log.response.model_spec.version.value:
            self._versions.add(version)
        return question.recorded()


AnySide: TypeAlias = "LiveSide | RecordedSide"
