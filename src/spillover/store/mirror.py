"""A copy of a run's finished work at a URL, such as s3://bucket/runs/x: machines without a common disk go on from it.

The first archive of a shard to be there stays; a machine that made the same shard takes that one in place of its own,
before it makes anything from it. So all machines come to have the same rows, and no answer is judged that the mirror
has not. What a machine had made from its own rows meanwhile, because the mirror was out of reach, is made again.

    mirror.json          says that this place is a mirror
    rows/STAGE/KEY.zip   a finished shard (store/packs.py)
    rest.zip, results.json, report.html  whatever was copied last
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from spillover.errors import UserError
from spillover.progress import Progress
from spillover.records.base import text_hash
from spillover.records.stages import SHARDS
from spillover.store import packs
from spillover.store.packs import Damaged
from spillover.store.remote import MARK, Remote
from spillover.store.store import Store

AT_ONCE = 16  # copies: each waits for the network most of its time
REST = "rest.zip"
SHOWN = ("results.json", "report.html")  # for people who look there; never taken from there
Place = tuple[str, str]  # stage and key


class Mirror:
    """One run folder and its mirror.

    `inputs`: of each unit of the study, the keys of the shards that it reads. A shard of another origin is taken to
    read all.
    """

    def __init__(self, store: Store, url: str, inputs: Mapping[str, Collection[str]] | None = None) -> None:
        self.store, self.url, self._inputs = store, url, inputs or {}
        self._there = Remote(url)
        self._same: set[Place] = set()  # shards that are alike here and there
        self._second: set[Place] = set()  # shards that the mirror had first, until the next `sync`
        self._unmade: set[Place] = set()  # shards that were made from rows which gave way

    @property
    def unmade(self) -> int:
        """How many shards have to be made again, from another machine's rows."""
        return sum(not self.store.is_done(*place) for place in self._unmade)

    def own(self) -> bool:
        """Whether the folder has shards that are not known to be alike at the mirror."""
        known = self._remembered()
        return any((stage, key) not in known for stage in SHARDS for key in packs.begun(self.store, stage))

    def check(self, create: bool) -> str:
        """See that a mirror is there, or make one; says what a person should know, if anything.

        Raises:
            UserError: when the place holds other files, or no mirror although none may be made.
            MachineError: when it cannot be reached.
        """
        with self._there.reached(self.store.path):
            mark, first_stays = self._there.mark(create)
        self._journal = self.store.path / f".mirror-{text_hash(repr(mark), length=16)}"
        return "" if first_stays else "the last to write a file wins there: run on one machine at a time"

    def sync(self, progress: Progress, push: bool = True) -> None:
        """Take what the mirror has and the folder has not, and copy what the mirror has not; nothing may run meanwhile.

        Without `push`, only take: for a folder that has nothing of its own.

        Raises:
            MachineError: when the mirror cannot be reached; what was copied until then stays.
        """
        with self._there.reached(self.store.path):
            names = self._there.names()
            there = {found for name in names if (found := self._shard(name))}
            self._same, self._second = self._remembered() & there, set()
            here = {(stage, key) for stage in SHARDS for key in packs.finished(self.store, stage)}
            work = (there | (here if push else set[Place]())) - (self._same & here)
            if work:
                with progress.stage("mirror", len(work)) as events:
                    for stage in SHARDS:
                        self._agree(stage, there, push, lambda: events.advance(units=1))

    def take_rest(self) -> None:
        """Take of what changes the files that are newer there.

        Raises:
            MachineError: when the mirror cannot be reached.
        """
        with self._there.reached(self.store.path), suppress(Damaged, FileNotFoundError):
            packs.take_rest(self.store, self._there.read(REST, packs.MOST))

    def copy(self) -> None:
        """Copy what is finished, as far as nobody else was first; may run beside workers, for it changes nothing here.

        Raises:
            MachineError: when the mirror cannot be reached.
        """
        with self._there.reached(self.store.path):
            for stage in SHARDS:
                left = {(stage, key) for key in packs.finished(self.store, stage)} - self._same
                self._each(left - self._second, self._give)
                if left - self._same:
                    return  # what follows may be made from rows that give way at the next `sync`

    def copy_rest(self) -> None:
        """Put what changes, and the report, in the place of what is there.

        Raises:
            MachineError: when the mirror cannot be reached.
        """
        with self._there.reached(self.store.path):
            self._there.put(REST, packs.pack_rest(self.store))
            for name in SHOWN:
                if self.store.has(name):
                    self._there.put(name, (self.store.path / name).read_bytes())

    def _agree(self, stage: str, there: set[Place], push: bool, tick: Callable[[], None]) -> None:
        """Make the shards of a stage the same here and there; of a shard that both have, the mirror's stays."""
        here = {(stage, key) for key in packs.finished(self.store, stage)}
        other: set[Place] = set()

        def agree(place: Place) -> bool:
            if place in here:
                if place not in there and self._give(place):
                    return True
                if (files := self._fetch(place)) is None:  # its writer died on a disk that shows half a file
                    self._there.put(packs.place(*place), packs.pack(self.store, *place))
                elif packs.differs(self.store, *place, files):
                    other.add(place)
                    return False
                return True
            return self._take(place)

        wanted = {place for place in there if place[0] == stage} | (here if push else set[Place]())
        self._each(wanted - (self._same & here), agree, tick)
        if other:
            self._unmake(stage, {key for _, key in other})  # first, lest a death in between leave what was made of them
            self._each(other, self._take)

    def _unmake(self, stage: str, changed: set[str]) -> None:
        """Drop the folder's own shards of later stages that read any of these."""
        for later in SHARDS[SHARDS.index(stage) + 1 :]:
            own = {key for key in packs.begun(self.store, later) if (later, key) not in self._same}
            lost = {key for key in own if not changed.isdisjoint(self._inputs.get(key, changed))}
            self._unmade |= {(later, key) for key in lost & packs.finished(self.store, later)}
            changed |= lost
            for key in lost:
                packs.drop(self.store, later, key)

    def _give(self, place: Place) -> bool:
        """Copy a shard to the mirror; False where one was there first."""
        created = self._there.create(packs.place(*place), packs.pack(self.store, *place))
        if not created:
            self._second.add(place)
        return created

    def _take(self, place: Place) -> bool:
        """Take the mirror's shard; False where it is not whole, and will be made here."""
        files = self._fetch(place)
        if files is not None:
            packs.take(self.store, *place, files)
        return files is not None

    def _fetch(self, place: Place) -> packs.Files | None:
        try:
            return packs.unpack(*place, self._there.read(packs.place(*place), packs.MOST))
        except Damaged:
            return None

    def _each(
        self, places: Iterable[Place], act: Callable[[Place], bool], tick: Callable[[], None] = lambda: None
    ) -> None:
        """Do it to many at once, and remember which are the same here and there then; after an error no more begin."""
        first: BaseException | None = None
        with ThreadPoolExecutor(AT_ONCE) as pool, open(self._journal, "a", encoding="utf-8") as journal:
            try:
                for place, future in [(place, pool.submit(act, place)) for place in sorted(places)]:
                    if future.cancelled():
                        continue
                    if (error := future.exception()) is not None:
                        first = first or error
                        pool.shutdown(wait=False, cancel_futures=True)
                    elif future.result():
                        self._same.add(place)
                        journal.write(f"{packs.place(*place)}\n")
                        tick()
            finally:
                pool.shutdown(cancel_futures=True)  # also after an interrupt
        if first:
            raise first

    def _remembered(self) -> set[Place]:
        names = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        return {found for name in names if (found := packs.placed(name))}

    def _shard(self, name: str) -> Place | None:
        """Whose archive that is; None for the few files that are none.

        Raises:
            UserError: for a file that no mirror has.
        """
        if name in (MARK, REST, *SHOWN):
            return None
        if found := packs.placed(name):
            return found
        raise UserError(f"{self.url} holds {name!r:.80}, which no mirror has. Take it away, or give another URL.")
