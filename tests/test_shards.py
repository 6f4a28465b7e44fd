import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from pipeline.config import Config
from pipeline.errors import ConfigError, ShardError
from pipeline.records import ShardSet
from pipeline.shard import shard
from pipeline.shards import ShardReader


@pytest.fixture
def record(tmp_path: Path) -> ShardSet:
    """23 pictures to train with in three tars, 4 to validate with in one."""
    rows = []
    for n in range(27):
        picture = io.BytesIO()
        Image.new("RGB", (8 + n, 9), (n, 0, 0)).save(picture, "PNG")
        (tmp_path / f"{n}.png").write_bytes(picture.getvalue())
        split = "train" if n < 23 else "val"
        rows.append({"image": f"{n}.png", "caption": f"caption {n}", "split": split})
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = {"kind": "jsonl", "annotations": "rows.jsonl"}
    settings = {"data_root": str(tmp_path), "shard": {"sources": [source], "shard_size": 8}}
    return shard(Config.model_validate(settings), tmp_path / "work")


def test_every_sample_once(record: ShardSet, tmp_path: Path) -> None:
    reader = ShardReader(record, "train")
    assert len(reader) == 23
    assert [tar.count for tar in reader.tars] == [7, 8, 8]
    samples = list(reader)
    assert sorted(sample.captions[0] for sample in samples) == sorted(
        f"caption {n}" for n in range(23)
    )
    for i, sample in enumerate(samples):
        assert sample.image == (tmp_path / sample.info["file_name"]).read_bytes()
        assert sample.info["sha256"] == hashlib.sha256(sample.image).hexdigest()
        assert reader.sample(i) == sample
    assert reader.captions() == [sample.captions for sample in samples]
    assert reader.infos() == [sample.info for sample in samples]
    assert reader.info(20) == samples[20].info
    with pytest.raises(IndexError):
        reader.sample(23)
    with pytest.raises(IndexError):
        reader.sample(-1)


def test_threads_may_read_at_once(record: ShardSet) -> None:
    reader = ShardReader(record, "train")
    expected = list(reader)
    order = [i * 7 % 23 for i in range(230)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.sample, order)) == [expected[i] for i in order]


def test_travels_to_another_process(record: ShardSet) -> None:
    reader = ShardReader(record, "val")
    assert list(pickle.loads(pickle.dumps(reader))) == list(reader)


def test_unknown_split_names_the_others(record: ShardSet) -> None:
    with pytest.raises(ConfigError, match=r"'test'.*train \(23\), val \(4\)"):
        ShardReader(record, "test")


def test_fingerprint_is_of_the_split(record: ShardSet) -> None:
    train, val = ShardReader(record, "train"), ShardReader(record, "val")
    assert len({train.fingerprint, val.fingerprint, record.fingerprint}) == 3
    assert ShardReader(record, "train").fingerprint == train.fingerprint


@pytest.mark.parametrize("lost", [1, 512, 20_000])
def test_truncated_tar_is_named(record: ShardSet, lost: int) -> None:
    path = ShardReader(record, "train").tars[1].path
    os.truncate(path, max(0, path.stat().st_size - lost))
    with pytest.raises(ShardError, match=f"{path.name} is truncated"):
        ShardReader(record, "train")
    assert len(list(ShardReader(record, "val"))) == 4


def test_tar_truncated_after_opening_is_named(record: ShardSet) -> None:
    reader = ShardReader(record, "train")
    os.truncate(reader.tars[1].path, 700)
    with pytest.raises(ShardError, match=reader.tars[1].path.name):
        list(reader)
    reader.tars[2].path.unlink()
    with pytest.raises(ShardError, match=reader.tars[2].path.name):
        reader.sample(20)


def test_missing_tar_and_index_are_named(record: ShardSet) -> None:
    reader = ShardReader(record, "train")
    index = reader.tars[0].index
    content = index.read_text()
    index.unlink()
    with pytest.raises(ShardError, match=index.name):
        ShardReader(record, "train")
    index.write_text(content[:-30])
    with pytest.raises(ShardError, match=index.name):
        ShardReader(record, "train")
    index.write_text(content)
    reader.tars[0].path.unlink()
    with pytest.raises(ShardError, match=reader.tars[0].path.name):
        ShardReader(record, "train")


@pytest.mark.parametrize("member", ["image", "json"])
def test_flipped_byte_is_named(record: ShardSet, member: str) -> None:
    reader = ShardReader(record, "train")
    tar = reader.tars[1]
    row = json.loads(tar.index.read_text())["samples"][3]
    position = row[f"{member}_offset"] + 20
    data = bytearray(tar.path.read_bytes())
    data[position] ^= 4
    tar.path.write_bytes(data)
    with pytest.raises(ShardError, match=f"{tar.path.name} is corrupt: {row['key']}"):
        reader.sample(7 + 3)
    with pytest.raises(ShardError, match="corrupt"):
        list(reader)
    assert len([reader.sample(i) for i in range(7)]) == 7


def test_swapped_index_is_refused(record: ShardSet) -> None:
    first, second, _ = ShardReader(record, "train").tars
    second.index.write_bytes(first.index.read_bytes())
    with pytest.raises(ShardError, match=second.index.name):
        ShardReader(record, "train")


def test_reads_without_webdataset(record: ShardSet, tmp_path: Path) -> None:
    record.save(tmp_path / "set.json")
    code = (
        "import sys; sys.modules['webdataset'] = None\n"
        "from pathlib import Path\n"
        "from pipeline.records import ShardSet\n"
        "from pipeline.shards import ShardReader\n"
        "print(len(list(ShardReader(ShardSet.load(Path(sys.argv[1])), 'train'))))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "set.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "23"
