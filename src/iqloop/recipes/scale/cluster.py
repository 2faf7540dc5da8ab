"""A run by Ray Data: actors hold the critic, batches of keys and paths stream to them, rows stream back.

A batch is what an actor is given at a time. When its process dies, Ray starts another and gives it that batch again,
`TRIES` times in all. Batches that end every process are left out and gone through once more, image by image: one image
in a million that kills (a fault in a decoder, too little memory) costs one row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from iqloop import errors
from iqloop.errors import IqloopError, PrerequisiteError
from iqloop.recipes.failures import reason_of
from iqloop.recipes.scale.listing import CHUNK, Listing, Packed, dataset, keep
from iqloop.recipes.scale.options import Spread
from iqloop.recipes.scale.rows import schema_of, table_of
from iqloop.recipes.scale.session import Size, running
from iqloop.recipes.scale.work import Say, Work, start

if TYPE_CHECKING:
    import pyarrow

TRIES = 2
"""How often a batch is begun before it is taken apart."""
_NOTICE = "notice"


def work_by_ray(work: Work, listing: Listing, spread: Spread, notice: Say) -> Iterator[pyarrow.Table]:
    """The rows of each batch as they are done, in any order; images whose workers died have no row.

    Raises what loading a critic raises in a worker; `UsageError` when the cluster is not to be found or too small;
    `PrerequisiteError` without Ray, and when nothing came back.
    """
    with running(work.choice.device, len(listing.keys), spread) as size:
        missing = set(listing.keys)
        # The second time nothing waits at an actor that may die: that would count as its try.
        for batch, in_flight in ((work.batch, 2), (1, 1)):
            rest = listing if len(missing) == len(listing.keys) else listing.only(missing)
            for table in _pipeline(work, rest, batch, size, in_flight):
                told = _heard(table, notice)
                missing.difference_update(told["key"].to_pylist())
                if len(told):
                    yield told
            if not missing:
                return
        if len(missing) == len(listing.keys):
            raise PrerequisiteError(
                "no worker gave a single answer: every machine needs iqloop, the critic, and the inputs under the same "
                "path; what went wrong there is in Ray's logs"
            )


class Actor:
    """A worker as Ray Data wants it. What concerns the whole run comes back as a row without a key.

    An exception would be one of Ray's when it arrives, and end only its batch.
    """

    def __init__(self, work: Work) -> None:
        self.schema = schema_of(work.command)
        self.notices: list[str] = []
        self.refusal: IqloopError | None = None
        try:
            self.worker = start(work, self.notices.append)
        except Exception as error:
            self.refusal = _as_ours(error)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Rows for the images of the batch, and behind them what is to be said."""
        rows: list[dict[str, Any]] = []
        table = None
        if self.refusal is None:
            try:
                table = self.worker(batch)
            except Exception as error:
                self.refusal = _as_ours(error)
        if self.refusal is not None:
            rows.append({"error": f"{type(self.refusal).__name__}:{self.refusal}"})
        rows += [{"error": f"{_NOTICE}:{text}"} for text in self.notices]
        self.notices.clear()
        said = table_of(rows, self.schema)
        if table is None:
            return said
        return _concat([table, said]) if rows else table


def _heard(table: pyarrow.Table, notice: Say) -> pyarrow.Table:
    """The rows of images; what else was said is passed on or raised."""
    for message in table.filter(table["key"].is_null())["error"].to_pylist():
        kind, _, content = message.partition(":")
        if kind != _NOTICE:
            raise getattr(errors, kind)(content)
        notice(content)
    return table.filter(table["key"].is_valid())


def _as_ours(error: Exception) -> IqloopError:
    """An error that can be named: errors about images do not get here, and have other arguments."""
    if isinstance(error, IqloopError) and not isinstance(error, errors.ImageError):
        return error
    return PrerequisiteError(f"a worker failed: {reason_of(error)}")


def _pipeline(work: Work, listing: Listing, batch: int, size: Size, in_flight: int) -> Iterator[pyarrow.Table]:
    import ray.data

    rows = _source(listing).repartition(target_num_rows_per_block=batch)
    found = rows.map_batches(
        Actor,
        fn_constructor_args=(work,),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=size.workers, max_tasks_in_flight_per_actor=in_flight),
        num_cpus=size.cpus,
        num_gpus=size.gpus,
        ray_remote_args_fn=partial(dict, max_restarts=-1, max_task_retries=TRIES - 1),
    )
    # Nothing is fetched ahead: rows that are there go to their part, and do not wait for the next ones.
    yield from found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _source(listing: Listing) -> Any:
    import ray.data

    if isinstance(listing, Packed):
        columns = ["key", "bytes"]
        packed: Any = ray.data.read_parquet(dataset(listing.source).files, columns=columns)
        if listing.wanted is None:
            return packed
        wanted = ray.put(listing.wanted)
        return packed.map_batches(_keep, fn_args=(wanted,), batch_format="pyarrow", batch_size=None)
    return ray.data.from_arrow(list(listing.tables(CHUNK)))


def _keep(table: pyarrow.Table, wanted: Any) -> pyarrow.Table:
    import ray

    keys: Collection[str] = ray.get(wanted) if isinstance(wanted, ray.ObjectRef) else wanted
    return keep(table, keys)


def _concat(tables: list[pyarrow.Table]) -> pyarrow.Table:
    import pyarrow

    return pyarrow.concat_tables(tables)
