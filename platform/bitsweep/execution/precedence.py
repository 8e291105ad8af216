"""Who goes first where sweeps of one store share machines.

A driver says in the store where it runs and whether it would start more trials than it has. While
one of more priority would, one of less starts none; what runs already is never taken away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time

from sqlalchemy import Engine

from bitsweep.store.drivers import Driver, leave, show, waiting_above
from bitsweep.store.writer import CLAIM_SECONDS


@dataclass(slots=True)
class Turn:
    """Whose turn it is: the agenda's thread says what it wants, the watching one what it sees.

    place: the machines that this driver shares, None until it has joined them. most: trials at
    once. wants: it was given a trial when it last asked, and may have more. above: the driver that
    goes first at this moment.
    """

    priority: int = 0
    most: int | None = None
    place: Callable[[], str | None] = lambda: None
    wants: bool = False
    above: Driver | None = None

    def asked(self, *, got_one: bool, running: int) -> None:
        """Note what came of asking for a trial."""
        self.wants = got_one and (self.most is None or running < self.most)


class Standing:
    """One driver in the table `drivers`: says where it stands, and looks who stands above.

    A row of a driver that is dead, or that has not changed for a minute by this one's stopwatch,
    counts for nothing.
    """

    def __init__(
        self,
        to_write: Engine,
        to_read: Engine,
        turn: Turn,
        *,
        sweep_id: int,
        owner: str,
        is_dead: Callable[[str], bool],
        stopwatch: Callable[[], float] = monotonic,
    ) -> None:
        self._to_write = to_write
        self._to_read = to_read
        self._turn = turn
        self._sweep_id = sweep_id
        self._owner = owner
        self._is_dead = is_dead
        self._stopwatch = stopwatch
        self._said: tuple[str, bool] | None = None
        self._said_at = 0.0
        self._seen: dict[str, tuple[float, float]] = {}

    def look(self) -> None:
        """Say what has changed, at the latest after a quarter of a minute; look who goes first."""
        place = self._turn.place()
        if place is None:
            return
        says = (place, self._turn.wants)
        if says != self._said or self._stopwatch() - self._said_at >= CLAIM_SECONDS / 4:
            show(
                self._to_write,
                self._owner,
                sweep_id=self._sweep_id,
                place=place,
                priority=self._turn.priority,
                is_waiting=self._turn.wants,
                at=time(),
            )
            self._said, self._said_at = says, self._stopwatch()
        higher = waiting_above(self._to_read, place, priority=self._turn.priority)
        self._turn.above = next((one for one in higher if self._is_alive(one)), None)

    def leave(self) -> None:
        """Say that this driver has ended."""
        if self._said is not None:
            leave(self._to_write, self._owner)

    def _is_alive(self, driver: Driver) -> bool:
        if self._is_dead(driver.owner):
            leave(self._to_write, driver.owner)
            return False
        beat, since = self._seen.get(driver.owner, (None, 0.0))
        if beat != driver.heartbeat_at:
            self._seen[driver.owner] = (driver.heartbeat_at, self._stopwatch())
            return True
        return self._stopwatch() - since <= CLAIM_SECONDS
