"""Canonical text: texts that fold together, texts that stay apart, texts that are refused."""

import pytest

from drc.rows.collation import BINARY, COLLATIONS, canonical_text
from drc.rows.collation_folds import ALPHABET, GROUPS, PICTOGRAPHS, SPACES

GENERAL, UNICODE, U520, AI_CI, AS_CI, AS_CS, BIN_0900 = 45, 224, 246, 255, 305, 278, 309
UTF8_BIN, LATIN1, LATIN1_BIN, LATIN1_GENERAL, ASCII, GBK, GBK_BIN = 46, 8, 47, 48, 11, 28, 87
FOLDING = [GENERAL, UNICODE, U520, AI_CI, AS_CI, 33, 192, 214]


def form(collation: int, text: str, encoding: str = "utf-8", prefix: int = 0) -> bytes | None:
    canonical = canonical_text(collation, prefix)
    assert canonical is not None
    return canonical(text.encode(encoding))


@pytest.mark.parametrize("collation", FOLDING)
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("abc@X.de", "ABC@x.DE"),
        ("Résumé", "resume"),
        ("Ａｂｃ，１", "abc,1"),
        ("ПРИВЕТ", "привет"),
        ("あいう", "アイウ"),
        ("a\u00a0b", "a b"),
        ("\N{GRINNING FACE}", "\N{PILE OF POO}"),
    ],
)
def test_folds(collation: int, one: str, two: str) -> None:
    assert form(collation, one) == form(collation, two) is not None


@pytest.mark.parametrize("collation", [*FOLDING, AS_CS, UTF8_BIN, BIN_0900])
@pytest.mark.parametrize(("one", "two"), [("a", "b"), ("张三", "张四"), ("", "a"), ("a", "aa")])
def test_keeps_apart(collation: int, one: str, two: str) -> None:
    assert form(collation, one) != form(collation, two)


@pytest.mark.parametrize("collation", [*FOLDING, AS_CS])
@pytest.mark.parametrize(
    "text",
    [
        "straße",  # equals "strasse" in the UCA collations
        "Ærø",
        "a\u0301",  # equals "á", and "a" where accents do not count
        "a\u00ad",  # a soft hyphen counts for nothing
        "a\tb",
        "\x00",
        "\u1100",  # Hangul syllables are sequences of such letters
        "\u05d0",  # outside the alphabet
        "\U00020000",
    ],
)
def test_refuses_what_it_cannot_follow(collation: int, text: str) -> None:
    assert form(collation, text) is None


@pytest.mark.parametrize("collation", [*FOLDING, AS_CS, UTF8_BIN, 309, 55, 61])
def test_refuses_undecodable_bytes(collation: int) -> None:
    canonical = canonical_text(collation, 2)
    assert canonical is not None
    assert canonical(b"\xd8\xff\xff") is None


def test_case_sensitive_text_is_exact() -> None:
    assert form(AS_CS, "Aéア") == "Aéア".encode()
    assert form(AS_CS, "〡") is None  # equals the digit 1 in this collation


@pytest.mark.parametrize(
    ("collation", "pads"),
    [
        *((GENERAL, True), (UNICODE, True), (U520, True), (LATIN1, True), (LATIN1_BIN, True)),
        *((ASCII, True), (GBK, True), (GBK_BIN, True), (UTF8_BIN, True)),
        *((AI_CI, False), (AS_CI, False), (AS_CS, False), (BIN_0900, False), (BINARY, False)),
    ],
)
def test_padding(collation: int, *, pads: bool) -> None:
    assert COLLATIONS[collation].pads == pads
    assert (form(collation, "x  ") == form(collation, "x")) == pads
    fixed = canonical_text(collation, fixed=True)
    assert fixed is not None
    pad = b"\0\0" if collation == BINARY else b"  "
    assert fixed(b"x" + pad) == fixed(b"x")  # CHAR and BINARY: always


def test_wide_characters_pad_with_wide_spaces() -> None:
    for collation, encoding in ((55, "utf-16-be"), (62, "utf-16-le"), (61, "utf-32-be")):
        assert form(collation, "ab ", encoding) == form(collation, "ab", encoding)
        # U+2020 ends in the byte of a space, but is not a space
        assert form(collation, "a\u2020", encoding) != form(collation, "a", encoding)


def test_latin1_swedish_is_not_what_it_seems() -> None:
    assert form(LATIN1, "[Ü", "latin-1") == form(LATIN1, "åy", "latin-1")
    assert form(LATIN1, "é", "latin-1") == form(LATIN1, "E", "latin-1")
    assert form(LATIN1_GENERAL, "é", "latin-1") != form(LATIN1_GENERAL, "e", "latin-1")
    assert form(LATIN1_GENERAL, "É", "latin-1") == form(LATIN1_GENERAL, "é", "latin-1")
    assert form(LATIN1, "ß", "latin-1") != form(LATIN1, "ss", "latin-1")


def test_gbk_folds_no_second_byte() -> None:
    # 丄 is 81 41, 乤 is 81 61: their second bytes are 'A' and 'a'
    assert form(GBK, "丄", "gbk") != form(GBK, "乤", "gbk")
    assert form(GBK, "丄a", "gbk") == form(GBK, "丄A", "gbk")
    assert form(GBK, "y", "gbk") == form(GBK, "~", "gbk")  # a quirk of the weight table
    assert form(GBK, "丄ab", "gbk", 2) == form(GBK, "丄ac", "gbk", 2)


@pytest.mark.parametrize("collation", [GENERAL, AI_CI, AS_CS, UTF8_BIN, BIN_0900])
def test_a_prefix_counts_characters(collation: int) -> None:
    assert form(collation, "张三a", prefix=2) == form(collation, "张三b", prefix=2)
    assert form(collation, "张三a", prefix=3) != form(collation, "张三b", prefix=3)
    assert form(collation, "ab" + "\u0301", prefix=2) == form(collation, "ab")


def test_a_prefix_of_unknown_width_is_refused() -> None:
    assert form(GBK_BIN, "丄丄", "gbk", 3) is None
    assert form(GBK_BIN, "丄a", "gbk", 3) == "丄a".encode("gbk")


@pytest.mark.parametrize("collation", [0, 1, 5, 31, 76, 223, 248, 256, 308, 9999])
def test_other_collations_have_no_rule(collation: int) -> None:
    assert canonical_text(collation) is None


def test_tables_are_consistent() -> None:
    members = [c for group in (*GROUPS.split(), SPACES) for c in dict.fromkeys(group)]
    assert len(members) == len(set(members))
    in_alphabet = {cp for first, last in ALPHABET for cp in range(first, last + 1)}
    assert set(map(ord, members)) <= in_alphabet
    assert set(range(PICTOGRAPHS[0], PICTOGRAPHS[1] + 1)) <= in_alphabet
    for group in GROUPS.split():
        ascii_members = {c.upper() for c in group if c.isascii()}
        assert ascii_members in (set(), {group[0]})  # the shortcut for ASCII agrees
