"""Parquet files: found, opened, and read a few rows at a time; knows no column's meaning."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import AnnotationError
from pipeline.shard.row import Stat

_BUFFER = 1 << 20
"""Bytes of a column read at once; without it a row group's whole column would be in memory."""


def find_files(path: Path) -> tuple[Path, list[Path]]:
    """The folder that names start at, and the files of a folder, a pattern or one file, by name.

    Raises:
        AnnotationError: there is none.
    """
    if path.is_dir():
        base, found = path, list(path.rglob("*.parquet"))
    elif glob.has_magic(str(path)) and not path.exists():
        base = next(folder for folder in path.parents if not glob.has_magic(str(folder)))
        found = list(base.glob(str(path.relative_to(base))))
    else:
        base, found = path.parent, [path]
    found = [file for file in found if file == path or file.is_file()]
    if not found:
        raise AnnotationError(f"no Parquet file in {path}; check shard.sources and data_root")
    return base, sorted(found)


class ParquetFile:
    """One open file.

    Raises:
        AnnotationError: it is missing, or not a whole Parquet file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            status = path.stat()
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        except FileNotFoundError:
            raise AnnotationError(
                f"no captions file {path}; check shard.sources and data_root"
            ) from None
        except pa.ArrowException:
            raise AnnotationError(f"{path} is not a Parquet file, or not a whole one") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "not a whole Parquet file"
            raise AnnotationError(f"cannot read the captions file {path}: {reason}") from None
        self.stat = Stat(status.st_size, status.st_mtime_ns)
        """As it was just before it was opened."""
        self.schema: pa.Schema = self._file.schema_arrow
        counts = [self._group(n).num_rows for n in range(self._file.metadata.num_row_groups)]
        self.groups = [range(sum(counts[:n]), sum(counts[: n + 1])) for n in range(len(counts))]
        """The rows of each row group."""

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def batches(self, group: int, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """A row group's `columns`, at most `rows` rows at a time.

        Raises:
            AnnotationError: the data are damaged; names the file and the rows.
        """
        batches = self._file.iter_batches(
            batch_size=rows, row_groups=[group], columns=columns, use_threads=False
        )
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError):
                span = self.groups[group]
                raise AnnotationError(
                    f"{self.path}, rows {span.start} to {span.stop - 1}: damaged: the columns "
                    f"{', '.join(columns)} cannot be read"
                ) from None
            if batch is None:
                return
            yield batch

    def all_null(self, group: int, leaf: str) -> bool:
        """Whether the row group is known to have nothing in this column."""
        column = self._leaf(group, leaf)
        statistics = column.statistics if column.is_stats_set else None
        return (
            statistics is not None
            and statistics.has_null_count
            and statistics.null_count == self._group(group).num_rows
        )

    def bytes_a_row(self, group: int, leaf: str) -> float:
        """How large a value of the column is, on average."""
        size: int = self._leaf(group, leaf).total_uncompressed_size
        return size / max(1, len(self.groups[group]))

    def _group(self, group: int) -> Any:
        return self._file.metadata.row_group(group)

    def _leaf(self, group: int, leaf: str) -> Any:
        row_group = self._group(group)
        columns = (row_group.column(n) for n in range(row_group.num_columns))
        return next(column for column in columns if column.path_in_schema == leaf)
