"""The line that says what a score is."""

from pipeline.metrics import References, ptb, score_captions
from pipeline.metrics.signature import VERSION

REFERENCES = [["A dog.", "The dog runs"], ["A cat"]]


def test_the_line_names_all_that_moves_the_numbers():
    prepared = References(REFERENCES)
    line = score_captions(prepared, ["a", "b"]).signature
    assert line == (
        f"tok:ptb{ptb.VERSION}|n:4|sigma:6|df:references(2)|eos:no|images:2"
        f"|refs:{prepared.fingerprint[:16]}|version:{VERSION}"
    )


def test_a_stored_table_is_named_by_size_and_fingerprint():
    table = References([["a"], ["b"], ["c"]]).document_frequencies
    line = score_captions(REFERENCES, ["a", "b"], table).signature
    assert f"|df:stored(3,{table.fingerprint})|" in line
    other = References([["a"], ["b"], ["d"]]).document_frequencies
    assert score_captions(REFERENCES, ["a", "b"], other).signature != line


def test_the_hypotheses_do_not_change_it():
    assert (
        score_captions(REFERENCES, ["a", "b"]).signature
        == score_captions(REFERENCES, ["", "a cat"]).signature
    )


def test_references_are_told_apart_by_tokens_order_and_grouping():
    def fingerprint(*captions):
        return References(captions).fingerprint

    first = fingerprint(["a dog", "b"], ["c"])
    assert len(first) == 64
    assert first == fingerprint(["A dog.", "B"], ["c"])
    assert first != fingerprint(["a dog"], ["b", "c"])
    assert first != fingerprint(["c"], ["a dog", "b"])
    assert first != fingerprint(["a dogs", "b"], ["c"])
