from __future__ import annotations

import json

import pytest

from discretion.constitution import BUILT_IN, Constitution, Principle, built_in, load_constitution, short_names
from discretion.errors import ColumnError, EmptyError, IdError, ReadError, StudyError

TEXTS = ["The AI should be kind to everyone it meets.", "The AI should tell the truth."]


def test_short_names_are_the_first_words():
    assert short_names(TEXTS) == ["Be kind to everyone it", "Tell the truth"]


def test_short_names_are_unique_and_never_empty():
    names = short_names(["The AI should help.", "Help.", "An assistant must help.", "The AI should .", "…"])
    assert len(set(names)) == 5
    assert all(name.strip() for name in names)
    assert names[:3] == ["Help", "Help (2)", "Help (3)"]


def test_principles_are_found_by_name_wording_and_number():
    one = Constitution.from_texts(TEXTS, ["kind", "true"])
    assert len(one) == 2
    assert one.names == ("kind", "true")
    assert [p.text for p in one] == TEXTS
    assert one.index("true") == one.index(TEXTS[1]) == one.index("1") == 1
    for key in ("2", "-1", "lies", "", "²", "１"):
        with pytest.raises(IdError, match="no principle"):
            one.index(key)


def test_a_name_that_is_a_number_comes_before_the_position():
    assert Constitution.from_texts(["a", "b"], ["1", "0"]).index("1") == 0


def test_the_digest_is_of_the_wordings_in_order():
    one = Constitution.from_texts(TEXTS, ["kind", "true"])
    assert one.digest == Constitution.from_texts(TEXTS, name="other").digest
    assert one.digest != Constitution.from_texts(TEXTS[::-1]).digest
    assert one.digest != Constitution.from_texts([TEXTS[0], TEXTS[1] + "!"]).digest
    assert Constitution.from_texts(["ab", "c"]).digest != Constitution.from_texts(["a", "bc"]).digest
    assert len(one.digest) == 16


def test_what_is_no_constitution_is_refused():
    with pytest.raises(EmptyError):
        Constitution(())
    with pytest.raises(IdError, match="empty name"):
        Constitution((Principle(" ", "text"),))
    with pytest.raises(IdError, match="two principles named 'a'"):
        Constitution((Principle("a", "x"), Principle("a", "y")))
    with pytest.raises(StudyError, match="1 short names were given for 2"):
        Constitution.from_texts(TEXTS, ["kind"])


def test_the_built_in_constitution_has_21_principles():
    one = built_in()
    assert len(one) == 21
    assert one.name in BUILT_IN or one.name
    assert all(len(p.text.split()) > 3 for p in one)
    with pytest.raises(StudyError, match="collective"):
        built_in("martian")


# --- files -------------------------------------------------------------------------------------------


def test_text_files_hold_a_line_a_principle(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff" + TEXTS[0] + "\r\n\r\n  " + TEXTS[1] + "  \n", "utf-8")
    one = load_constitution(path)
    assert [p.text for p in one] == TEXTS
    assert one.name == "mine"
    assert one.names == tuple(short_names(TEXTS))


def test_short_names_may_lie_beside(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(TEXTS), "utf-8")
    (tmp_path / "mine_short.txt").write_text("kind\ntrue\n", "utf-8")
    (tmp_path / "else.txt").write_text("k\nt\n", "utf-8")
    assert load_constitution(path).names == ("kind", "true")
    assert load_constitution(path, tmp_path / "else.txt").names == ("k", "t")
    (tmp_path / "mine_short.txt").write_text("kind\n", "utf-8")
    with pytest.raises(StudyError, match="1 short names"):
        load_constitution(path)


def test_toml_and_json_hold_texts_and_names(tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text(
        f'name = "ours"\n[[principles]]\nname = "kind"\ntext = "{TEXTS[0]}"\n[[principles]]\ntext = "{TEXTS[1]}"\n',
        "utf-8",
    )
    tree = {"name": "ours", "principles": [{"name": "kind", "text": TEXTS[0]}, TEXTS[1]]}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(tree), "utf-8")
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(TEXTS), "utf-8")
    assert load_constitution(toml) == load_constitution(file)
    assert load_constitution(file).names == ("kind", "Tell the truth")
    assert load_constitution(file).name == "ours"
    assert load_constitution(bare).name == "bare"


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("a.txt", b"", EmptyError, "a line a principle"),
        ("a.txt", b" \n\n", EmptyError, "a line a principle"),
        ("a.txt", b"fine\n\xff\xfe", ReadError, r"row 2: is not UTF-8"),
        ("a.txt", b"fine\nno\0t", ReadError, r"row 2: holds a NUL"),
        ("a.json", b"{", ReadError, "not JSON"),
        ("a.json", b"[" * 100_000, ReadError, "not JSON"),
        ("a.toml", b"principles = ", ReadError, "not TOML"),
        ("a.json", b"{}", ColumnError, "no list `principles`"),
        ("a.json", b"3", ColumnError, "no list `principles`"),
        ("a.json", b"[]", EmptyError, "no principles"),
        ("a.json", b'["x", 3]', ColumnError, "row 2: is 3"),
        ("a.json", b'[{"name": "x"}]', ColumnError, "row 1"),
        ("a.json", b'[{"name": 3, "text": "x"}]', ColumnError, "column 'name'"),
        ("a.json", b'[{"name": "x", "text": "a"}, {"name": "x", "text": "b"}]', IdError, "two principles named 'x'"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, name, content, error, match):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=match):
        load_constitution(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ReadError, match=r"gone\.txt: cannot be read"):
        load_constitution(tmp_path / "gone.txt")


@pytest.mark.shared
def test_the_published_constitution_is_loaded_with_its_short_names(shared):
    one = load_constitution(shared / "data" / "principles" / "ccai_seed.txt")
    assert len(one) == 21
    short = (shared / "data" / "principles" / "ccai_seed_short.txt").read_text("utf-8").split("\n")
    assert one.names == tuple(line.strip() for line in short if line.strip())
    assert built_in().names == one.names
    assert built_in().digest != one.digest  # our own words
