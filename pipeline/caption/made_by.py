"""How many of a table's rows another version of a model would make otherwise."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import TableError


def stale_rows(table: Path, name: str, version: int) -> tuple[int, int]:
    """(captioned rows that another model than NAME/version made, all captioned rows).

    Reads two dictionary-coded columns and the status; no model is loaded.

    Raises:
        TableError: not a caption table.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    parts = sorted(str(path) for path in table.glob("*.parquet"))
    if not (table / "_table.json").is_file():
        raise TableError(f"{table} is not a caption table: it has no _table.json")
    if not parts:
        return 0, 0
    try:
        rows = ds.dataset(parts, format="parquet").to_table(
            columns=["model_name", "model_version"], filter=ds.field("status") == "captioned"
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{table} cannot be read: {error}; see `captionmill verify`") from None
    same = pc.and_(
        pc.equal(rows["model_name"].cast(pa.string()), name),
        pc.equal(rows["model_version"].cast(pa.string()), str(version)),
    )
    return len(rows) - (pc.sum(same).as_py() or 0), len(rows)
