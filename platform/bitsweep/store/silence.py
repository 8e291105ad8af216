"""PostgreSQL connections that do not wait for ever: a stopped server keeps its sockets open.

The kernel of its machine goes on acknowledging what is sent, so that neither keepalives nor
tcp_user_timeout end a wait for the answer. The limit stands on this side.
"""

from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event


class Listening(psycopg.Connection[Any]):
    """A connection that is closed, with an OperationalError, where no answer comes in time.

    What was asked may still be done by the server once it goes on: ask again what may be repeated.
    """

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, for at most `answer_seconds` unless the caller says otherwise.

        None: as long as it takes.
        """
        try:
            return super().wait(gen, interval, timeout=timeout or self.answer_seconds)
        except psycopg.OperationalError as error:
            if timeout is not None or not self._is_unanswered:
                raise
            self.pgconn.finish()
            silent = f"the server has been silent for {self.answer_seconds:g} s"
            raise psycopg.OperationalError(silent) from error

    @property
    def _is_unanswered(self) -> bool:
        return self.pgconn.transaction_status == TransactionStatus.ACTIVE


def end_silence(engine: Engine, *, answer_seconds: float) -> None:
    """Bound every wait of the engine's new connections; those that it keeps are closed."""

    # SQLAlchemy's dialect and record, and what it would give to psycopg.connect.
    def connect(_dialect: Any, _record: Any, words: Any, options: Any) -> Listening:
        connection = Listening.connect(*words, **options)
        connection.answer_seconds = answer_seconds
        return connection

    event.listen(engine, "do_connect", connect)
    engine.dispose()
