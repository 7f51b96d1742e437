"""Takes row images up to a cut out of the live table: of each row that is there only what it was then is left.

The last image of such a row becomes its baseline: it loses what it took away, keeps what it put there, and keeps its
number, so that later images follow from it as they did. All others of the row go. A transaction takes whole rows, by
their keys: whoever folds images sees all of a row's or its baseline alone, and both come to the same. So it may be cut
off anywhere and begun again. Used by `history.archiving`; what triggers let go is in `storage.archive_ddl`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection

from actionbus.core.history.databases import database_of
from actionbus.core.history.fold import Fold, by_table
from actionbus.core.history.images import Cut, Image, Images, Residual
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.shapes import GAP, Shape
from actionbus.core.history.versions import Trail, by_key, by_position
from actionbus.core.storage.archives import Archive
from actionbus.core.storage.backend import ATTEMPTS, Backend, pause
from actionbus.core.storage.drivers import driver_connection, driver_error
from actionbus.core.storage.history_ddl import IMAGES

_KEYS: Final = 200
"""Rows of the application's that one transaction takes."""
_BEGIN: Final = {"postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ", "sqlite": "BEGIN IMMEDIATE"}
Progress = Callable[[], None]
T = TypeVar("T")


class ThinningPlan(NamedTuple):
    """What is to become of some images."""

    gone: list[Image]
    kept: list[Image]
    """The baselines at the cut, as they are now."""


class Thinning:
    """Thins the images of one archive, a transaction after the other."""

    def __init__(self, backend: Backend, archive: Archive, progress: Progress) -> None:
        self._backend = backend
        self._archive = archive
        self._progress = progress
        self._cut = Cut(archive.upto, archive.image, archive.moment, ended=archive.ended)

    def run(self) -> None:
        """All tables, one after the other. What is done already is passed over."""
        for name in self._again(lambda images: list(self._by_table(images))):
            shapes, is_keyed = self._again(partial(self._about, name=name))
            for shape in shapes if is_keyed else ():
                after = self._again(partial(self._rows, name=name, shape=shape, after=None))
                while after is not None:
                    after = self._again(partial(self._rows, name=name, shape=shape, after=after))
            self._again(partial(self._rest, name=name))

    def _about(self, images: Images, name: str) -> tuple[list[int], bool]:
        """The shapes of a table, and whether its rows go by keys."""
        recorded = self._recorded(images, name)
        return list(recorded.written), Fold(recorded.shapes, images.values).is_keyed

    def _by_table(self, images: Images) -> dict[str, list[Shape]]:
        shapes = database_of(images.connection).shapes(images.connection, images.prefix)
        return dict(by_table(each for each in shapes if each.shape in self._archive.shapes))

    def _recorded(self, images: Images, name: str) -> RecordedTable:
        # They were in force at the cut: of some the record that told so may be gone by now.
        shapes = self._by_table(images)[name]
        return RecordedTable.in_force(images, shapes, shapes)

    def _again(self, work: Callable[[Images], T]) -> T:
        """What `work` does in a transaction of its own, in one snapshot; again where another one came between."""
        for number in range(1, ATTEMPTS + 1):
            with self._backend.connection() as connection:
                try:
                    return self._once(connection, work)
                except Exception as error:
                    if number == ATTEMPTS or not self._backend.is_transient(driver_error(error)):
                        raise
            pause(number)
        raise AssertionError("the last attempt either returns or raises")

    def _once(self, connection: Connection, work: Callable[[Images], T]) -> T:
        images = database_of(connection).images(self._backend, connection)
        cursor = driver_connection(connection).cursor()
        with self._backend.placed(connection):
            cursor.execute(_BEGIN[connection.dialect.name])
            try:
                with images.joined():
                    images.leave_out(self._archive.archive)
                    found = work(images)
                cursor.execute("COMMIT")
            except BaseException:
                self._backend.rollback(connection)
                raise
        return found

    def _rows(self, images: Images, name: str, shape: int, after: Any) -> Any:
        """Thin the next rows that have images of a shape, by their keys; the last key, None where there is no more."""
        beyond = "" if after is None else " AND key > ?"
        keys = [
            key
            for (key,) in images.rows_of(
                f"SELECT DISTINCT key FROM {{home}}{IMAGES} WHERE shape = ? AND image <= ? AND key IS NOT NULL{beyond} "
                "ORDER BY key LIMIT ?",
                (shape, self._cut.image, *(() if after is None else (after,)), _KEYS),
            )
        ]
        if not keys:
            return None
        recorded = self._recorded(images, name)
        own = images.of_keys(list(recorded.written.values()), keys, 0, self._cut)
        fold = Fold(recorded.shapes, images.values)
        thinned = ThinningPlan([], [])
        for found in by_key(own):
            _thin(thinned, found, _last(fold, recorded, found))
        self._write(images, recorded, thinned)
        return keys[-1]

    def _rest(self, images: Images, name: str) -> None:
        """What has no key: all of a table that has none, and of others what they had before they had one."""
        recorded = self._recorded(images, name)
        fold = Fold(recorded.shapes, images.values)
        own = [
            each
            for each in images.of_keys(list(recorded.written.values()), None, 0, self._cut)
            if each.key is None or not fold.is_keyed
        ]
        thinned = ThinningPlan([], [])
        left = [] if fold.is_keyed else list(self._left(images, recorded, fold))
        there = {number for row, times in left for number in _holding(own, *row, times)}
        for image in own:
            if image.operation != GAP:
                (thinned.kept if image.image in there else thinned.gone).append(image)
        self._write(images, recorded, thinned)

    def _left(self, images: Images, recorded: RecordedTable, fold: Fold) -> Iterator[tuple[tuple[int, str, int], int]]:
        """Of each row that is there its shape, what is in it, since which image it may be; how often it is there."""
        folded = fold.settle(images.residue(recorded.shapes, recorded.since_image, self._cut))
        for row in folded.rows:
            yield (row.shape, repr(row.row), recorded.since_image), row.times

    def _write(self, images: Images, recorded: RecordedTable, thinned: ThinningPlan) -> None:
        become = [each for each in thinned.kept if each.operation != "b" or each.before is not None]
        images.remove(thinned.gone)
        images.make_baseline(become, {n: len(s.columns) for n, s in recorded.written.items()})
        for _ in thinned.gone:
            self._progress()


def _last(fold: Fold, recorded: RecordedTable, images: Sequence[Image]) -> Image | None:
    """The image that tells what a row is after all of these; None where it is gone."""
    era = {each.shape for each in recorded.shapes}
    own = [each for each in images if each.shape in era and each.image > recorded.since_image]
    if not own:
        return None
    follow = all(b.before is not None and b.before == a.after and a.shape == b.shape for a, b in pairwise(own))
    if follow and own[0].before is None:
        return own[-1] if own[-1].after is not None else None
    trail = Trail(fold)
    row: Residual | None = None
    for _, of_record in by_position(own, unplaced=True):
        row = trail.go(of_record)
    if row is None:
        return None
    shape, held = row.shape, repr(row.row)
    return max((i for i in own if i.shape == shape and repr(i.after) == held), key=lambda image: image.image)


def _thin(thinned: ThinningPlan, images: Sequence[Image], last: Image | None) -> None:
    for image in images:
        if image is last:
            thinned.kept.append(image)
        elif image.operation != GAP:
            thinned.gone.append(image)


def _holding(images: Sequence[Image], shape: int, row: str, since: int, times: int) -> list[int]:
    """The last images that put a row there, as many as there are of it."""
    found = [
        i.image for i in images if i.shape == shape and i.image > since and i.after is not None and repr(i.after) == row
    ]
    return found[-times:]
