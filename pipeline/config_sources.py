"""Where `shard` finds pictures and captions, as settings: one model a kind of captions file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, field_validator

from pipeline.config_file import Strict, chosen_by_kind


class _Source(Strict):
    kind: str
    annotations: str = Field(description="The captions file, relative to `data_root`.")
    images: list[str] = Field(
        default_factory=list,
        description="Folders searched in order for each picture; default: the file's own folder.",
    )
    split: str | None = Field(
        None, description="Split of these samples, whatever the file says; default: the file's."
    )
    name: str | None = Field(None, description="Name in sample ids; default: the file's stem.")

    @field_validator("images", mode="before")
    @classmethod
    def _one_folder_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class CocoSource(_Source):
    """A COCO captions JSON."""

    kind: Literal["coco"] = "coco"


class KarpathySource(_Source):
    """A JSON of Karpathy's splits: dataset_coco.json, dataset_flickr8k.json, ..."""

    kind: Literal["karpathy"] = "karpathy"
    restval: str = Field("train", description="Split that the pictures of `restval` go to.")


class CsvSource(_Source):
    """A CSV with the columns image, caption and, if wanted, split."""

    kind: Literal["csv"] = "csv"


class JsonlSource(_Source):
    """A JSON object a line with the keys image, caption and, if wanted, split."""

    kind: Literal["jsonl"] = "jsonl"


class ParquetColumns(Strict):
    """What the columns of Parquet files are called."""

    image: str = Field("image", description="Paths, or the pictures' bytes.")
    captions: list[str] = Field(
        default_factory=list,
        description="One or several, each a text or a list of texts; default: caption or captions.",
    )
    split: str | None = Field(None, description="Default: split, where there is one.")
    id: str | None = Field(
        None, description="Ids, whole numbers or texts; rows of one id are one picture."
    )

    @field_validator("captions", mode="before")
    @classmethod
    def _one_column_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class ParquetSource(_Source):
    """Parquet with pictures or their paths: a file, a folder, or a pattern such as a/train-*.parquet."""

    kind: Literal["parquet"] = "parquet"
    columns: ParquetColumns = Field(default_factory=ParquetColumns)


Source = Annotated[
    Annotated[CocoSource, Tag("coco")]
    | Annotated[KarpathySource, Tag("karpathy")]
    | Annotated[CsvSource, Tag("csv")]
    | Annotated[JsonlSource, Tag("jsonl")]
    | Annotated[ParquetSource, Tag("parquet")],
    chosen_by_kind("coco"),
]
"""One source of pictures and captions."""
