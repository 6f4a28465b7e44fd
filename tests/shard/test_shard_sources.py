import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import AnnotationError, ConfigError, DataError
from pipeline.shard import shard
from pipeline.shard.sources import read_sources
from pipeline.shards import ShardReader

CSV = {"kind": "csv", "annotations": "rows.csv", "images": "images"}
JSONL = {"kind": "jsonl", "annotations": "rows.jsonl", "images": "images"}


def test_names_of_every_sort_survive(sources: Any) -> None:
    webdataset = pytest.importorskip("webdataset")
    names = [
        *("a.b.c.jpg", "a.b.d.jpg", "with space.jpg", "ein Bär im Grünen.jpg", "熊.jpg"),
        *("x/1.jpg", "y/1.jpg", "no_suffix", "wrong.png", ".hidden", "quote'\".jpg", "tab\t.jpg"),
    ]
    for seed, name in enumerate(names):
        sources.picture(name, seed)
    sources.picture("really.png", 40, kind="PNG")
    sources.coco([*names, "really.png"])
    other = sources.root / "other.json"
    other.write_text((sources.root / "captions.json").read_text())
    record = shard(
        sources.config(
            {"annotations": "captions.json", "images": "images", "split": "train"},
            {"annotations": "other.json", "images": "images", "split": "val"},
            shard_size=4,
        ),
        sources.work,
    )
    assert record.samples == {"train": 13, "val": 13}
    for split in ("train", "val"):
        tars = [str(tar.path) for tar in ShardReader(record, split).tars]
        dataset = webdataset.WebDataset(tars, shardshuffle=False)
        samples = list(dataset)
        assert len(samples) == 13
        for sample in samples:
            info = json.loads(sample["json"])
            extension = "png" if info["file_name"] == "really.png" else "jpg"
            source = sources.root / "images" / info["file_name"]
            assert sample[extension] == source.read_bytes()
            assert info["captions"] == [f"one {info['file_name']}", f"two {info['file_name']}"]
            assert info["split"] == split
        assert {json.loads(s["json"])["file_name"] for s in samples} == {*names, "really.png"}
        assert sorted(json.loads(s["json"])["id"] for s in samples) == list(range(1, 14))


def test_equal_names_in_different_folders(sources: Any) -> None:
    for folder, seed in (("one", 1), ("two", 2)):
        sources.picture(f"../{folder}/same.jpg", seed)
        rows = [{"image": "same.jpg", "caption": folder}]
        (sources.root / f"{folder}.jsonl").write_text(json.dumps(rows[0]))
    config = sources.config(
        *(
            {"kind": "jsonl", "annotations": f"{name}.jsonl", "images": name}
            for name in ("one", "two")
        )
    )
    samples = list(ShardReader(shard(config, sources.work), "train"))
    assert {sample.captions[0] for sample in samples} == {"one", "two"}
    for sample in samples:
        assert sample.image == (sources.root / sample.captions[0] / "same.jpg").read_bytes()


def test_folders_are_searched_in_order(sources: Any) -> None:
    sources.picture("../first/a.jpg", 1)
    sources.picture("../second/a.jpg", 2)
    sources.picture("../second/b.jpg", 3)
    sources.coco(["a.jpg", "b.jpg"])
    source = {"annotations": "captions.json", "images": ["first", "second"]}
    record = shard(sources.config(source), sources.work)
    found = {sample.info["file_name"]: sample.image for sample in ShardReader(record, "train")}
    assert found["a.jpg"] == (sources.root / "first" / "a.jpg").read_bytes()
    assert found["b.jpg"] == (sources.root / "second" / "b.jpg").read_bytes()


def test_csv_groups_rows_and_keeps_columns(sources: Any) -> None:
    sources.numbered(3)
    (sources.root / "rows.csv").write_text(
        "image,caption,split,shelf,nr\r\n"
        '0.jpg,"a dog, running",train,A 1,1\r\n'
        "1.jpg,a cat,val,A 2,2\r\n"
        "0.jpg,a dog again,train,A 1,3\r\n"
        "\r\n"
        '2.jpg,"two\nlines",,A 3,4\r\n',
        encoding="utf-8-sig",
    )
    record = shard(sources.config(CSV), sources.work)
    assert record.samples == {"train": 2, "val": 1}
    train = {sample.info["file_name"]: sample for sample in ShardReader(record, "train")}
    assert train["0.jpg"].captions == ["a dog, running", "a dog again"]
    assert train["0.jpg"].info["meta"] == {"shelf": "A 1", "nr": ["1", "3"]}
    assert train["0.jpg"].info["id"] == train["0.jpg"].key
    assert train["2.jpg"].captions == ["two\nlines"]
    assert train["2.jpg"].info["meta"] == {"shelf": "A 3", "nr": "4"}


def test_jsonl_keeps_typed_columns(sources: Any) -> None:
    sources.numbered(2)
    sources.rows(
        [
            {"image": "0.jpg", "caption": "eins", "year": 1990, "tags": ["a", "b"]},
            {"image": "0.jpg", "caption": "zwei", "year": 1990, "tags": ["a", "b"]},
            {"image": "1.jpg", "caption": "\u2028 drei", "split": "test", "owner": {"name": None}},
        ]
    )
    record = shard(sources.config(JSONL), sources.work)
    (first,) = ShardReader(record, "train")
    (second,) = ShardReader(record, "test")
    assert first.captions == ["eins", "zwei"]
    assert first.info["meta"] == {"year": 1990, "tags": ["a", "b"]}
    assert second.info["meta"] == {"owner": {"name": None}}
    assert second.captions == ["drei"]


def test_images_lie_beside_the_table_by_default(sources: Any) -> None:
    sources.numbered(1)
    sources.rows([{"image": "images/0.jpg", "caption": "x"}])
    source = {"kind": "jsonl", "annotations": "rows.jsonl", "split": "val"}
    assert shard(sources.config(source), sources.work).samples == {"val": 1}


def test_split_of_the_source_beats_the_column_and_the_holdout(sources: Any) -> None:
    sources.rows([{"image": "a", "caption": "x", "split": "val"}, {"image": "b", "caption": "y"}])
    splits = [p.split for p in read_sources(sources.config(JSONL, holdout={"test": 1.0}))]
    assert splits == ["val", "test"]
    splits = [p.split for p in read_sources(sources.config({**JSONL, "split": "dev"}))]
    assert splits == ["dev", "dev"]


def test_holdout_shares_and_stability(sources: Any) -> None:
    names = [f"{n}.jpg" for n in range(2000)]
    sources.coco(names[:1000])
    holdout = {"val": 0.1, "test": 0.05}
    before = {p.file_name: p.split for p in read_sources(sources.config(holdout=holdout))}
    sources.coco(names)
    pictures = read_sources(sources.config(holdout=holdout))
    after = {p.file_name: p.split for p in pictures}
    assert before.items() <= after.items()
    counts = {name: sum(p.split == name for p in pictures) for name in ("train", "val", "test")}
    assert sum(counts.values()) == 2000
    assert 150 < counts["val"] < 250
    assert 65 < counts["test"] < 140
    other = read_sources(sources.config(holdout=holdout, seed=1))
    assert {p.file_name: p.split for p in other} != after


COCO = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [\n oops', "line 2, column 2"),
        ("[1, 2]", "must hold an object"),
        ({"annotations": []}, "no key `images`.*annotations"),
        ({"images": []}, "no key `annotations`"),
        ({"images": {}, "annotations": []}, "`images` must be a list, not an object"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\] has no key `file_name`"),
        ({"images": [3], "annotations": []}, r"images\[0\] must be an object"),
        (
            {"images": [{"id": "x", "file_name": "a"}], "annotations": []},
            r"images\[0\].id must be a whole number",
        ),
        (
            {"images": [*COCO["images"], {"id": 1, "file_name": "b"}], "annotations": []},
            r"images\[1\].id is 1, which images\[0\] has already",
        ),
        (
            {"images": [*COCO["images"], {"id": 2, "file_name": "a.jpg"}], "annotations": []},
            r"images\[1\].file_name is 'a.jpg'",
        ),
        (
            {**COCO, "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 7777}]},
            r"annotations\[1\] has no key `caption`",
        ),
        (
            {**COCO, "annotations": [{"image_id": 7777, "caption": "x"}]},
            r"annotations\[0\].image_id is 7777",
        ),
        (
            {**COCO, "annotations": [{"image_id": 1, "caption": 5}]},
            r"annotations\[0\].caption must be a text, not 5",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_coco(sources: Any, content: Any, message: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    path = sources.root / "captions.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        shard(sources.config(), sources.work)
    assert str(path) in str(caught.value)
    assert not sources.work.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"file,caption\na,b\n", "line 1: no column `image`; columns here: file, caption"),
        (b"", "line 1: no column"),
        (b"image,caption,caption\n", "named twice"),
        (b"image,caption\na,b\na,b,c\n", "line 3: 3 fields"),
        (b'image,caption\na,"b\n', "line 2: not CSV"),
        (b"image,caption\na,x\nb,\xff\n", "line 3: byte 0xff is not UTF-8"),
        (b"image,caption\n,x\n", "line 2: `image` is empty"),
        (b"image,caption,split\na,x,train\na,y,val\n", "line 3: 'a' has split 'val'"),
        (b"image,caption,split\na,x,../../up\n", "line 2: split '../../up' is not a name"),
    ],
)
def test_malformed_csv(sources: Any, text: bytes, message: str) -> None:
    path = sources.root / "rows.csv"
    path.write_bytes(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        shard(sources.config(CSV), sources.work)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a", "caption": "b"}\n{"image": "a"\n', "line 2, column"),
        ('{"image": "a", "caption": "b"}\n[1]\n', "line 2: not an object"),
        ('{"img": "a", "caption": "b"}\n', "line 1: no key `image`; keys here: img, caption"),
        ('{"image": "a", "caption": ["b"]}\n', "line 1: `caption` must be a text"),
        ('{"image": "a", "caption": "b", "x": NaN}\n', "line 1: not JSON: NaN"),
        ('{"image": "a", "caption": "b", "x": -1e999}\n', "line 1: not JSON: -1e999"),
        (
            '{"image": "a", "caption": "b \\ud83d"}\n',
            r"line 1: the caption holds .ud83d, half of a character",
        ),
    ],
)
def test_malformed_jsonl(sources: Any, text: str, message: str) -> None:
    path = sources.root / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        shard(sources.config(JSONL), sources.work)
    assert str(path) in str(caught.value)


def test_missing_captions_file(sources: Any) -> None:
    with pytest.raises(AnnotationError, match=r"no captions file .*captions\.json"):
        shard(sources.config(), sources.work)
    (sources.root / "captions.json").mkdir()
    with pytest.raises(AnnotationError, match="cannot read"):
        shard(sources.config(), sources.work)


@pytest.mark.parametrize("kind", ["coco", "csv", "jsonl"])
def test_empty_source(sources: Any, kind: str) -> None:
    empty = {"coco": '{"images": [], "annotations": []}', "csv": "image,caption\n", "jsonl": "\n"}
    (sources.root / "empty").write_text(empty[kind])
    with pytest.raises(DataError, match="lists no pictures"):
        shard(sources.config({"kind": kind, "annotations": "empty"}), sources.work)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "shard.sources is empty"),
        ({"holdout": {"val": 0.7, "test": 0.7}}, "adds up to 1.4"),
        ({"holdout": {"val": -0.1}}, "holdout.val = -0.1"),
        ({"holdout": {"a/b": 0.1}}, "split 'a/b'"),
        ({"sources": [{"annotations": "c.json", "split": "a b"}]}, "sources.0.split = 'a b'"),
        (
            {"sources": [{"annotations": "x/c.json"}, {"annotations": "y/c.json"}]},
            "0 and 1 are both named 'c'",
        ),
    ],
)
def test_settings_that_cannot_work(sources: Any, settings: Any, message: str) -> None:
    sources.coco(["a.jpg"])
    with pytest.raises(ConfigError, match=message):
        shard(sources.config(**settings), sources.work)


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_file_names_that_are_not_utf8(sources: Any) -> None:
    picture = sources.picture("plain.jpg")
    odd = picture.parent / os.fsdecode(b"caf\xe9.jpg")
    try:
        picture.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    sources.rows([{"image": odd.name, "caption": "x"}, {"image": "\ud800.jpg", "caption": "y"}])
    record = shard(sources.config(JSONL, max_bad_fraction=0.5), sources.work)
    (sample,) = ShardReader(record, "train")
    assert sample.info["file_name"] == odd.name
    assert record.bad == {"unreadable_file": 1}
    assert Path(record.report).read_text().count("\n") == 1
