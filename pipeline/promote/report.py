"""A decision as people read it: the Markdown artifact, and the model card.

Records in, text out. The card is a version's description, written from its decision alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet

TITLES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "meteor": "METEOR",
}
LONGEST = 5000
"""Characters of a description that MLflow's databases keep."""


def verdict(decision: Decision) -> str:
    """`promoted`, `approved by NAME`, `waiting for approval` or `refused`."""
    if decision.promoted:
        return f"approved by {decision.approved_by}" if decision.approved_by else "promoted"
    return "waiting for approval" if decision.waiting else "refused"


def decision_markdown(
    shard_set: ShardSet, checkpoint: Checkpoint, card: ScoreCard, decision: Decision
) -> str:
    """Scores beside the champion's, gains, guards, slices and examples."""
    parts = [
        f"# {decision.model}/{decision.version}: {verdict(decision)}",
        decision.reason,
        _asked(decision),
        _scores(decision),
        _guards(decision),
        _slices(decision),
        _examples(decision),
        "\n".join(
            [
                f"- scored on {_scored(card, decision)}",
                f"- signature `{decision.signature}`",
                f"- trained on {_counts(shard_set.samples)} pictures, shard set "
                f"`{checkpoint.shard_set}`",
                f"- captioner `{checkpoint.path}`",
                f"- gain needed: more than {decision.min_gain:.1f} CIDEr at p <= "
                f"{decision.max_p_value:g}, {decision.resamples:,} resamples",
            ]
        ),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def model_card(
    shard_set: ShardSet, checkpoint: Checkpoint, card: ScoreCard, decision: Decision
) -> str:
    """What a person wants to know before using a version; at most `LONGEST` characters."""
    captions = shard_set.captions.get("train", 0)
    limits = [
        "- The scores hold for pictures like those of the evaluation set; others may fare worse.",
        "- Captions are guesses: the model names what it learned to name, also where it is not there.",
        "- It reports a mean token log-probability with each caption; low ones deserve a look.",
    ]
    seen = decision.behaviour
    if seen is not None:
        limits.append(
            f"- Its captions have {seen.length:.1f} words on average, {seen.vocabulary:,} different "
            f"ones; {seen.repeated:.1%} say something twice, {seen.unfinished:.1%} are cut, and "
            f"{seen.shared:.1%} of the pictures share their caption with another."
        )
    parts = [
        f"# {decision.model}/{decision.version}",
        f"{verdict(decision).capitalize()}. {decision.reason}",
        "## Data\n\n"
        f"Trained on {shard_set.samples.get('train', 0):,} pictures with {captions:,} captions "
        f"(shard set `{checkpoint.shard_set}`); epoch {checkpoint.epoch}, step {checkpoint.step:,}. "
        f"Scored on {_scored(card, decision)}, none of which it learned from.",
        "## Scores\n\n" + _scores(decision),
        _slices(decision),
        "## Limits\n\n" + "\n".join(limits),
        _examples(decision),
        f"Signature `{decision.signature}`",
    ]
    text = "\n\n".join(filter(None, parts)) + "\n"
    return text if len(text) <= LONGEST else text[: LONGEST - 2].rsplit("\n", 1)[0] + "\n…"


def _asked(decision: Decision) -> str:
    asked = [f"Asked for by {decision.asked_by}" if decision.asked_by else "", decision.cause]
    if decision.approved_by:
        asked.append(f"approved by {decision.approved_by}: {decision.approval}")
    return "; ".join(filter(None, asked))


def _scored(card: ScoreCard, decision: Decision) -> str:
    chosen = decision.evaluation_set
    if chosen is None:
        return f"{card.images:,} pictures of `{card.split}`, references `{card.references}`"
    return f"{chosen.images:,} pictures of `{chosen.split}`, evaluation set `{chosen.fingerprint}`"


def _scores(decision: Decision) -> str:
    ours, theirs = decision.candidate, decision.champion
    head = f"{decision.model}/{decision.champion_version}" if theirs else "no champion before"
    rows = []
    for name, title in TITLES.items():
        if name not in ours:
            continue
        interval, gain = decision.intervals.get(name), decision.gains.get(name)
        rows.append(
            [
                title,
                f"{ours[name]:.1f}",
                "" if interval is None else f"{interval[0]:.1f} .. {interval[1]:.1f}",
                f"{theirs[name]:.1f}" if theirs and name in theirs else "",
                "" if gain is None else f"{gain.difference:+.2f}",
                "" if gain is None else f"{gain.low:+.2f} .. {gain.high:+.2f}",
                "" if gain is None else f"{gain.p_value:.4f}",
            ]
        )
    this = f"{decision.model}/{decision.version}"
    return _table(["x100", this, "95 %", head, "gain", "95 %", "p"], rows, left=1)


def _guards(decision: Decision) -> str:
    if not decision.guards:
        return ""
    rows = [
        [guard.name, "passed" if guard.passed else "**failed**", guard.sentence, guard.threshold]
        for guard in decision.guards
    ]
    return "## Guards\n\n" + _table(["guard", "", "measured", "allowed"], rows, left=4)


def _slices(decision: Decision) -> str:
    if not decision.slices:
        return ""
    rows = [
        [
            one.value,
            f"{one.images:,}",
            f"{one.candidate:.1f}",
            "" if one.champion is None else f"{one.champion:.1f}",
            "" if one.judged else "too small to judge",
        ]
        for one in decision.slices
    ]
    return "## Slices\n\n" + _table(["slice", "pictures", "CIDEr", "champion", ""], rows, left=1)


def _examples(decision: Decision) -> str:
    if not decision.examples:
        return ""
    rows = []
    for one in decision.examples:
        rows.append([one.image, f"{one.candidate} ({one.candidate_cider:.0f})"])
        if one.champion is not None:
            rows[-1].append(f"{one.champion} ({one.champion_cider:.0f})")
    head = ["picture", "caption (CIDEr)", "the champion's"][: len(rows[0])]
    return "## Examples\n\n" + _table(head, rows, left=3)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int) -> str:
    rule = ["---" if place < left else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in [head, rule, *rows])


def _cell(value: object) -> str:
    """One line that cannot end its cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number) or "no"
