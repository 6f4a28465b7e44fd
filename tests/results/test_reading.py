"""References and predictions as people hand them over, whole and broken."""

import json
from pathlib import Path

import pytest

from pipeline.errors import AnnotationError, PredictionsError
from pipeline.results.predictions import read_predictions
from pipeline.results.references import read_references


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def coco(captions: dict[object, list[str]]) -> dict[str, list[dict[str, object]]]:
    return {
        "images": [{"id": key, "file_name": f"{key}.jpg"} for key in captions],
        "annotations": [
            {"image_id": key, "id": 10 * place, "caption": caption}
            for place, (key, texts) in enumerate(captions.items())
            for caption in texts
        ],
    }


def results(captions: dict[object, str]) -> list[dict[str, object]]:
    return [{"image_id": key, "caption": caption} for key, caption in captions.items()]


@pytest.fixture
def references(tmp_path: Path):
    return read_references(
        write(tmp_path / "captions.json", coco({7: ["a dog", "dogs"], 3: ["a cat"], 5: ["b"]}))
    )


def test_references_keep_the_order_of_images_and_of_annotations(tmp_path: Path):
    tree = coco({7: ["a dog"], 3: ["a cat"]})
    tree["annotations"].append({"image_id": 7, "caption": "dogs"})
    del tree["images"][1]["file_name"]
    path = write(tmp_path / "captions.json", tree)
    found = read_references(path)
    assert found.ids == [7, 3]
    assert found.captions == [["a dog", "dogs"], ["a cat"]]
    assert found.file_names == ["7.jpg", None]
    assert found.number_of_captions == 3
    assert len(found.sha256) == 64


def test_predictions_come_in_the_references_order(tmp_path: Path, references):
    entries = [{**entry, "score": float("nan")} for entry in results({3: "C", 5: "B", 7: "D"})]
    found = read_predictions(write(tmp_path / "r.json", entries), references)
    assert found.captions == ["D", "C", "B"]
    assert found.missing == 0


def test_ids_are_compared_as_text(tmp_path: Path, references):
    found = read_predictions(
        write(tmp_path / "r.json", results({"3": "C", 5: "B", "7": "D"})), references
    )
    assert found.captions == ["D", "C", "B"]
    with pytest.raises(PredictionsError, match=r"1 of 3 missing \(3\), 1 unknown \('03'\)"):
        read_predictions(
            write(tmp_path / "r.json", results({"03": "C", 5: "B", "7": "D"})), references
        )


def test_text_ids_on_both_sides(tmp_path: Path):
    given = read_references(write(tmp_path / "c.json", coco({"a/1.jpg": ["x"], "é": ["y"]})))
    found = read_predictions(write(tmp_path / "r.json", results({"é": "Y", "a/1.jpg": "X"})), given)
    assert found.captions == ["X", "Y"]


def test_missing_images_are_empty_captions_if_allowed(tmp_path: Path, references):
    path = write(tmp_path / "r.json", results({5: "B"}))
    found = read_predictions(path, references, allow_missing=True)
    assert found.captions == ["", "", "B"]
    assert found.missing == 2
    empty = write(tmp_path / "e.json", [])
    assert read_predictions(empty, references, allow_missing=True).captions == ["", "", ""]


def test_one_error_counts_and_names_missing_doubled_and_unknown_ids(tmp_path: Path):
    given = read_references(
        write(tmp_path / "captions.json", coco({key: ["a"] for key in range(1, 21)}))
    )
    entries = results(dict.fromkeys([*range(13, 21), 99, "x"], "b")) + results({14: "c"}) * 2
    path = write(tmp_path / "results.json", entries)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path, given)
    message = str(caught.value)
    assert message == (
        f"{path}: its image ids are not those of {tmp_path / 'captions.json'}: "
        "12 of 20 missing (1, 2, 3, 4, 5 and 7 more), 1 doubled (14), 2 unknown (99, 'x'); "
        "--allow-missing scores missing images as empty captions; keep one caption an image; "
        "remove unknown ids or give references that have them"
    )
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path, given, allow_missing=True)
    assert "1 doubled (14), 2 unknown (99, 'x')" in str(caught.value)
    assert "missing (" not in str(caught.value)


def test_the_same_caption_twice_is_doubled_all_the_same(tmp_path: Path, references):
    path = write(tmp_path / "r.json", results({3: "C", 5: "B", 7: "D"}) + results({"3": "C"}))
    with pytest.raises(PredictionsError, match=r"1 doubled \('3'\)"):
        read_predictions(path, references)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"7": "a dog"}, "must be a list of .*, not an object$"),
        (coco({7: ["a"]}), "not an object; is it the references?"),
        ("null", "not null"),
        ("true", "not a boolean"),
        ("12", "not a number"),
        (["a dog"], "entry 0 must be an object, not a text"),
        ([[7, "a dog"]], "entry 0 must be an object, not a list"),
        ([{"caption": "a"}], "entry 0 has no key `image_id`; its keys: 'caption'"),
        ([{"image_id": 7}], "entry 0 has no key `caption`; its keys: 'image_id'"),
        ([{}], "its keys: none"),
        ([{"image_id": True, "caption": "a"}], "entry 0.image_id must be .*, not true"),
        ([{"image_id": 7.0, "caption": "a"}], "a whole number or a text, not 7.0"),
        ([{"image_id": None, "caption": "a"}], "not null"),
        ([{"image_id": [7], "caption": "a"}], "not a list"),
        ([{"image_id": 7, "caption": None}], "entry 0.caption must be a text, not null"),
        ([{"image_id": 7, "caption": ["a"]}], "entry 0.caption must be a text, not a list"),
        ([{"image_id": 7, "caption": 5}], "entry 0.caption must be a text, not 5"),
        ([{"image_id": 7, "caption": "\ud83d"}], "entry 0.caption holds .ud83d, half of a char"),
        ('[{"image_id": 7,}]', "line 1, column 17: not JSON: "),
        ('{"image_id": 7}\n{"image_id": 8}', "line 2, .* is it JSON Lines?"),
        ("", "line 1, column 1: not JSON: expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"image_id": ' + "9" * 5_000 + "}]", "not JSON: Exceeds the limit .4300 digits. [^:]*$"),
    ],
)
def test_a_malformed_results_file_is_named_with_the_place(tmp_path: Path, references, value, told):
    path = write(tmp_path / "results.json", value)
    with pytest.raises(PredictionsError, match=told.replace("?", r"\?")) as caught:
        read_predictions(path, references)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: [], "not a list; is it a results file?"),
        (lambda tree: tree.pop("images") and tree, "the file has no key `images`"),
        (lambda tree: tree.pop("annotations") and tree, "has no key `annotations`; its keys: 'im"),
        (lambda tree: {**tree, "images": {}}, "`images` must be a list, not an object"),
        (lambda tree: {**tree, "images": []}, "annotations[0].image_id is 7, which is not"),
        (lambda tree: {"images": [], "annotations": []}, "nothing to score"),
        (lambda tree: {**tree, "images": [{}]}, "images[0] has no key `id`"),
        (lambda tree: {**tree, "images": [{"id": False}]}, "images[0].id must be a whole number"),
        (
            lambda tree: {**tree, "images": [*tree["images"], {"id": "7"}]},
            "images[2].id is '7', which an image before it has",
        ),
        (
            lambda tree: {**tree, "annotations": [{"image_id": 8, "caption": ""}]},
            "annotations[0].image_id is 8, which is not the id of any image",
        ),
        (
            lambda tree: {**tree, "annotations": [{"image_id": 7}]},
            "annotations[0] has no key `caption`",
        ),
        (
            lambda tree: {**tree, "annotations": tree["annotations"][:1]},
            "1 of 2 images have no caption: 3; every image needs at least one",
        ),
        (
            lambda tree: {**tree, "images": tree["images"] + [{"id": n} for n in range(20, 30)]},
            "10 of 12 images have no caption: 20, 21, 22, 23, 24 and 5 more",
        ),
    ],
)
def test_malformed_references_are_named_with_the_place(tmp_path: Path, change, told: str):
    path = write(tmp_path / "captions.json", change(coco({7: ["a dog"], 3: ["a cat"]})))
    with pytest.raises(AnnotationError) as caught:
        read_references(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_not_there_or_not_text(tmp_path: Path, references):
    with pytest.raises(AnnotationError, match=r"none\.json: No such file"):
        read_references(tmp_path / "none.json")
    with pytest.raises(PredictionsError, match="Is a directory"):
        read_predictions(tmp_path, references)
    latin = tmp_path / "latin.json"
    latin.write_bytes('[\n{"image_id": 7, "caption": "café"}]'.encode("latin-1"))
    with pytest.raises(PredictionsError, match="line 2: byte 0xe9 is not UTF-8"):
        read_predictions(latin, references)
    marked = tmp_path / "marked.json"
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(results({7: "a", 3: "b", 5: "c"})).encode())
    assert read_predictions(marked, references).captions == ["a", "b", "c"]


def test_control_characters_of_an_id_are_spelt_out(tmp_path: Path, references):
    path = write(tmp_path / "r.json", results({"\x1b[31m\u202e": "a"}))
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path, references)
    assert str(caught.value).isprintable()
