"""What stages hand to each other: small, frozen, JSON on disk; paths and numbers, never tensors.

Paths inside a record are absolute. A record on disk is its stage's done marker: it is
committed after everything that it names.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from pipeline import storage
from pipeline.remote import Location


class Record(BaseModel):
    """A frozen value with a JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def save(self, path: Location) -> None:
        """Commit the record to `path`."""
        storage.commit_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Location) -> Self:
        """Read a record back; FileNotFoundError and pydantic.ValidationError pass through."""
        return cls.model_validate(storage.read_json(path))


class ShardSet(Record):
    """A list of immutable parts, each a directory of tars; made by `shard`."""

    manifest: str
    """The manifest's path; it lists the parts, their tars and every tar's SHA-256 and count."""
    fingerprint: str
    """Of the content: order, captions and pictures of every sample."""
    samples: dict[str, int]
    """Samples a split."""
    captions: dict[str, int]
    """Captions a split."""
    bad: dict[str, int]
    """Unusable pictures by kind."""
    report: str
    """The list of unusable pictures (JSONL)."""


class Checkpoint(Record):
    """A trained captioner's directory; made by `train`."""

    path: str
    fingerprint: str
    """Of the settings and the shard set it was trained with."""
    shard_set: str
    """Fingerprint of the training shard set."""
    epoch: int
    step: int
    validation_cider: float | None
    """Best validation CIDEr, x100 scale."""
    run_id: str | None
    """MLflow run."""


class ScoreCard(Record):
    """Corpus scores of one checkpoint on one split; made by `score`."""

    path: str
    """The directory with scores.json, per_image.parquet and predictions.json."""
    fingerprint: str
    checkpoint: str
    """Fingerprint of the checkpoint."""
    split: str
    references: str
    """Fingerprint of the pictures and references scored."""
    images: int
    metrics: dict[str, float]
    """bleu_1..bleu_4, rouge_l, cider, and meteor where it was asked for: x100 scale."""
    signature: str
    """What was computed, in one line; scores with different signatures are not compared."""
    run_id: str | None


class EvaluationSet(Record):
    """The pictures and references that candidate and champion are compared on."""

    fingerprint: str
    """Of the split's content and order."""
    split: str
    images: int
    shard_set: ShardSet
    """Where it was pinned; its parts never change."""


class Gain(Record):
    """What the candidate has over the champion in one metric, x100 scale."""

    difference: float
    low: float
    high: float
    """Bounds of the 95 % interval of the difference, by paired bootstrap over images."""
    p_value: float
    """Two-sided, of the shifted bootstrap."""


class Behaviour(Record):
    """What a set of captions looks like, whatever the references say, and how fast it came."""

    length: float
    """Mean words a caption."""
    vocabulary: int
    """Different words."""
    repeated: float
    """Share of captions that say something twice."""
    unfinished: float
    """Share of captions that were cut at their longest length."""
    shared: float
    """Share of pictures whose caption another picture has too."""
    misplaced: float
    """CIDEr (x100 scale) of each picture's caption against another picture's references."""
    speed: float
    """Pictures captioned a second."""
    confidence: float | None = None
    """Mean of the captions' mean token log-probabilities."""


class Guard(Record):
    """One condition beside the gain: what was measured, what is allowed, and a sentence."""

    name: str
    passed: bool
    candidate: float | str | None
    champion: float | str | None
    threshold: float | str
    sentence: str


class SliceScore(Record):
    """CIDEr (x100 scale) of the pictures that share a value of a `meta` column."""

    value: str
    images: int
    candidate: float
    champion: float | None
    judged: bool
    """Whether it is large enough to be judged."""


class Example(Record):
    """A picture with both captions; CIDEr on the x100 scale."""

    image: str
    candidate: str
    candidate_cider: float
    champion: str | None
    champion_cider: float | None


class Decision(Record):
    """Whether a candidate became champion, and the numbers; made by `promote`."""

    path: str
    fingerprint: str
    model: str
    version: int
    promoted: bool
    reason: str
    candidate: dict[str, float]
    champion: dict[str, float] | None
    """The former champion's scores on the same references; none if there was none."""
    champion_version: int | None
    """The former champion's version."""
    min_gain: float
    signature: str
    waiting: bool = False
    """It passed, and a person has to approve it."""
    max_p_value: float = 1.0
    resamples: int = 0
    evaluation_set: EvaluationSet | None = None
    gains: dict[str, Gain] = {}
    """By metric; empty without a champion to compare with."""
    intervals: dict[str, tuple[float, float]] = {}
    """95 % intervals of the candidate's scores, by metric."""
    behaviour: Behaviour | None = None
    champion_behaviour: Behaviour | None = None
    guards: tuple[Guard, ...] = ()
    slices: tuple[SliceScore, ...] = ()
    """The worst first; no more than `SLICES` of them."""
    examples: tuple[Example, ...] = ()
    training_images: int = 0
    asked_by: str = ""
    """Who or what asked for the promotion."""
    cause: str = ""
    """Why, where it was said."""
    flow_run: str | None = None
    """Prefect's id of the run that waits for approval."""
    approved_by: str | None = None
    approval: str | None = None
    """Why it was approved."""

    @property
    def sentence(self) -> str:
        """The reason, and what a candidate that waits is waiting for."""
        if not self.waiting:
            return self.reason
        ref = f"{self.model}/{self.version}"
        return f"{self.reason}; it waits for `captionmill approve {ref} --by NAME`"

    def failed(self) -> list[Guard]:
        """The guards that it does not pass."""
        return [guard for guard in self.guards if not guard.passed]


SLICES = 20
"""Slices that a decision lists."""


class TableReport(Record):
    """The account of a bulk run: discovered = captioned + failed + skipped; made by `caption`."""

    table: str
    model: str
    """The resolved NAME/version or directory."""
    recipe: str
    discovered: int
    captioned: int
    failed: dict[str, int]
    """By error code."""
    skipped: dict[str, int]
    """By reason."""
    deleted: int = 0
    """Rows, counted above too, whose pictures are no longer in their archive."""
    stale: int = 0
    """Rows, counted above too, that another model or other settings made."""
    units: int
    units_reused: int
    """Units that an earlier run had finished."""
    seconds: float
    images_per_second: float
    """Of the pictures that the last run that captioned any captioned."""
    engine: str = "local"
    bottleneck: str | None = None
    """The slowest stage: read, decode, encode, search or write."""
    stage_seconds: dict[str, float] = {}
    """Time by stage, over all its threads and processes."""

    def balanced(self) -> bool:
        """Whether every discovered input is accounted for."""
        return self.discovered == self.captioned + sum(self.failed.values()) + sum(
            self.skipped.values()
        )
