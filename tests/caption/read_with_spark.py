"""Reads a caption table by Spark, as a dataset, also while a run is writing it.

    pip install pyspark                       # and a Java runtime, 17 or later
    python tests/caption/read_with_spark.py TABLE [--times 3]

Prints the rows by status, and the candidates and meta of one row, each time anew; ends with 1 if the
schema is another than docs/tables.md says, a key is there twice, or a file of the plan is taken for
rows. Needs neither captionmill nor torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SCHEMA = {
    "source": "string",
    "member": "string",
    "occurrence": "int",
    "sha256": "string",
    "bytes": "bigint",
    "width": "int",
    "height": "int",
    "caption": "string",
    "score": "float",
    "candidates": "array<struct<caption:string,score:float>>",
    "status": "string",
    "error_code": "string",
    "error": "string",
    "model_name": "string",
    "model_version": "string",
    "recipe": "string",
    "meta": "string",
    "in_archive": "boolean",
}


def session() -> SparkSession:
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        sys.exit("pyspark is not installed; pip install pyspark (it needs a Java runtime too)")
    builder = SparkSession.builder.master("local[2]").appName("read_with_spark")
    quiet = {"spark.ui.enabled": "false", "spark.log.level": "ERROR"}
    loopback = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    for name, value in {**quiet, **loopback}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def problems(rows: DataFrame) -> list[str]:
    found = {field.name: field.dataType.simpleString() for field in rows.schema.fields}
    wrong = [
        f"{name}: {found.get(name)}, not {SCHEMA.get(name)}"
        for name in sorted(found.keys() | SCHEMA.keys())
        if found.get(name) != SCHEMA.get(name)
    ]
    key = ["source", "member", "occurrence"]
    twice = rows.groupBy(*key).count().where("count > 1").count()
    return wrong + ([f"{twice} keys are there twice"] if twice else [])


def shown(rows: DataFrame) -> dict[str, Any]:
    """Counts by status, and what the nested column and the JSON column give."""
    counts = {row["status"]: row["count"] for row in rows.groupBy("status").count().collect()}
    best = rows.where("candidates is not null").selectExpr(
        "member", "candidates[0].caption as first", "size(candidates) as number"
    )
    told = rows.where("meta is not null").select("member", "meta").limit(1).collect()
    return {
        "rows": sum(counts.values()),
        "by status": dict(sorted(counts.items())),
        "files": len(rows.inputFiles()),
        "candidates": [row.asDict() for row in best.limit(1).collect()],
        "meta": [row.asDict() for row in told],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table")
    parser.add_argument("--times", type=int, default=1)
    given = parser.parse_args()
    spark = session()
    wrong: list[str] = []
    for _ in range(given.times):
        rows = spark.read.parquet(given.table)
        wrong = problems(rows)
        print(json.dumps({**shown(rows), "problems": wrong}, ensure_ascii=False), flush=True)
        if wrong:
            break
    spark.stop()
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
