"""Canonical text against a real server: equal texts have the same form, or no form.

The server compares by WEIGHT_STRING and by ``=``, thousands of strings in a query.
"""

import contextlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from drc.rows.collation import CHARACTER_SETS, COLLATIONS, canonical_text
from drc.rows.collation_folds import ALPHABET, NOT_EXACT, PICTOGRAPHS
from drc.sandbox import Sandbox

pytestmark = pytest.mark.servers

Weights = list[bytes | None]
FOLDING = [id_ for id_, row in COLLATIONS.items() if row.rule == "fold"]
AI_CI, AS_CI, AS_CS = 255, 305, 278
_CHUNK = 20_000
_PAD_TO = 40  # characters; longer than any text here

# Characters that some collation takes for each other, for nothing, or for several. The list is
# there twice, so that equal texts are common.
TRICKY = "aAáàÄåÅªａＡsSßſẞeEéæÆœ  \u00a0\u3000\t\0\x1f\u00ad\u0301\u0308" * 2 + (
    "lL·yYÿ~[\\]{|}^iIİıjǰ1¹１①〡½Жжйи\u0306あアｱかが한ᄒ張张一丁\u4e02\u9fa5😀💩\U00020000…．.,，"
)


@pytest.fixture(scope="module")
def cursor(pair: Sandbox) -> Iterable[Any]:
    with contextlib.closing(pair.sites["a"].connect()) as conn, conn.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="module")
def older(pair80: Sandbox) -> Iterable[Any]:
    """Connect to MySQL 8.0: the tables must be the same there, as both versions may be a site."""
    with contextlib.closing(pair80.sites["a"].connect()) as conn, conn.cursor() as cursor:
        yield cursor


def _ask(cursor: Any, expression: str, charset: str, values: Sequence[bytes]) -> list[Any]:
    """Evaluate ``expression`` for each value, bound to the name ``v`` with unchanged bytes."""
    out: list[Any] = []
    for i in range(0, len(values), _CHUNK):
        literals = json.dumps([value.hex() for value in values[i : i + _CHUNK]])
        cursor.execute(
            f"SELECT {expression} FROM (SELECT n, CONVERT(UNHEX(h) USING `{charset}`) AS v"
            " FROM JSON_TABLE(%s, '$[*]' COLUMNS (n FOR ORDINALITY, h VARCHAR(20000) PATH '$')) j)"
            " t ORDER BY n",
            (literals,),
        )
        out += [row[0] for row in cursor.fetchall()]
    assert len(out) == len(values)
    return out


def weights(cursor: Any, id_: int, values: Sequence[bytes], *, pad: bool = True) -> Weights:
    row = COLLATIONS[id_]
    padded = f" AS CHAR({_PAD_TO})" if row.pads and pad else ""
    return _ask(cursor, f"WEIGHT_STRING(v COLLATE `{row.name}`{padded})", row.charset, values)


def assert_equal_means_equal(id_: int, values: Sequence[bytes], answers: Weights) -> int:
    """Check that values of equal weight have the same form or no form.

    :return: how many values had the form of another value.
    """
    canonical = canonical_text(id_)
    assert canonical is not None
    forms: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    telling = 0
    for value, weight in zip(values, answers, strict=True):
        form = canonical(value)
        if weight is None or form is None:
            continue  # not valid in this character set, or without a form
        known = forms[weight]
        known.setdefault(form, value)
        assert len(known) == 1, (COLLATIONS[id_].name, list(known.values()))
        telling += known[form] != value
    return telling


@pytest.mark.parametrize("version", ["cursor", "older"])
def test_the_table_is_the_servers(version: str, request: pytest.FixtureRequest) -> None:
    cursor = request.getfixturevalue(version)
    cursor.execute(
        "SELECT id, collation_name, character_set_name, pad_attribute = 'PAD SPACE'"
        " FROM information_schema.collations"
    )
    server = {row[0]: (row[1], row[2], bool(row[3])) for row in cursor.fetchall()}
    assert {i: (r.name, r.charset, r.pads) for i, r in COLLATIONS.items()} == {
        i: server.get(i) for i in COLLATIONS
    }
    assert {i: charset for i, (_, charset, _) in server.items()} == CHARACTER_SETS


BYTEWISE = [i for i, r in COLLATIONS.items() if r.rule in ("bytes", "ascii") or "latin1" in r.rule]


@pytest.mark.parametrize("id_", BYTEWISE, ids=lambda i: COLLATIONS[i].name)
def test_every_byte_and_pair_of_bytes(cursor: Any, id_: int) -> None:
    top = 128 if COLLATIONS[id_].charset in ("ascii", "swe7") else 256
    exhaustive = COLLATIONS[id_].rule != "bytes"
    some = range(top) if exhaustive else [0, 9, 32, 65, 97, 126, top - 96, top - 1]
    values = [bytes([a]) for a in range(top)]
    values += [bytes([a, b]) for a in range(top) for b in some]
    answers = weights(cursor, id_, values, pad=False)
    assert None not in answers
    single = answers[:top]
    for value, weight in zip(values, answers, strict=True):  # no contractions or expansions
        assert weight == b"".join(single[b] or b"" for b in value)
    assert_equal_means_equal(id_, values, weights(cursor, id_, values))


def test_every_gbk_character(cursor: Any) -> None:
    values = [bytes([a]) for a in range(128)]
    values += [bytes([a, b]) for a in range(0x81, 0xFF) for b in range(0x40, 0xFF) if b != 0x7F]
    answers = weights(cursor, 28, values, pad=False)
    assert_equal_means_equal(28, values, answers)
    distinct = {w for w in answers if w}
    # No weight of 1 byte begins a weight of 2, so texts are equal only character by character.
    assert {w[:1] for w in distinct if len(w) == 2}.isdisjoint(distinct)
    assert {len(w) for w in distinct} == {1, 2}


# ---------------------------------------------------------------- the alphabet


def alphabet() -> list[str]:
    return [chr(cp) for first, last in ALPHABET for cp in range(first, last + 1)]


def levels(weight: bytes) -> list[bytes]:
    """Split the weight of a UCA collation at its level separators."""
    out = [b""]
    for i in range(0, len(weight), 2):
        if weight[i : i + 2] == b"\0\0":
            out.append(b"")
        else:
            out[-1] += weight[i : i + 2]
    return out


def uniquely_decodable(words: set[bytes]) -> bool:
    """Return whether no sequence of words can be read in two ways (Sardinas and Patterson)."""
    steps: dict[bytes, list[bytes]] = defaultdict(list)
    for word in words:
        for i in range(2, len(word), 2):
            steps[word[:i]].append(word[i:])
    pending = {rest for word in words for rest in steps.get(word, ())}
    seen: set[bytes] = set()
    while pending:
        if pending & words:
            return False
        seen |= pending
        reached = {rest for suffix in pending for rest in steps.get(suffix, ())}
        for suffix in pending:
            cuts = (i for i in range(2, len(suffix), 2) if suffix[:i] in words)
            reached |= {suffix[i:] for i in cuts}
        pending = reached - seen
    return True


def test_unique_decoding_is_told() -> None:
    a, b, c = b"\0a", b"\0b", b"\0c"
    assert uniquely_decodable({a, b, a + c, a + c + c})
    assert uniquely_decodable({a, a + b, b + b})  # not a prefix code, still unique
    assert not uniquely_decodable({a, b, a + b})
    assert not uniquely_decodable({a, a + b, b + c, c})


@pytest.mark.parametrize("id_", FOLDING, ids=lambda i: COLLATIONS[i].name)
def test_folding_the_alphabet(cursor: Any, id_: int) -> None:
    """Check that characters of equal weight fold together, and texts are read in a single way."""
    narrow = COLLATIONS[id_].charset == "utf8mb3"
    characters = [c for c in alphabet() if not (narrow and ord(c) > 0xFFFF)]
    values = [c.encode() for c in characters]
    words = [levels(w or b"")[0] for w in weights(cursor, id_, values, pad=False)]
    canonical = canonical_text(id_)
    assert canonical is not None
    assert all(words)
    assert None not in map(canonical, values)
    assert assert_equal_means_equal(id_, values, list(words)) > 500
    assert uniquely_decodable(set(words))


def test_exact_characters(cursor: Any) -> None:
    """Check utf8mb4_0900_as_cs: weights differ, and each level is read in a single way."""
    characters = [c for c in alphabet() if c not in NOT_EXACT]
    answers = weights(cursor, AS_CS, [c.encode() for c in characters])
    assert len(set(answers)) == len(characters)
    base = b"\x00\x20"
    for character, weight in zip(characters, answers, strict=True):
        primary, secondary, tertiary = levels(weight or b"")
        assert len(secondary) == len(tertiary)
        pairs = [secondary[i : i + 2] for i in range(0, len(secondary), 2)]
        syllable = 0xAC00 <= ord(character) <= 0xD7A3  # as many bases as letters
        assert pairs[0] == base
        assert (pairs.count(base) == len(primary) // 2) if syllable else (base not in pairs[1:])


def test_case_and_accents_add_levels_only(cursor: Any) -> None:
    """Check that the first level of as_ci and as_cs is ai_ci, so that both tell no less apart."""
    values = [c.encode() for c in alphabet()]
    plain = weights(cursor, AI_CI, values)
    for id_ in (AS_CI, AS_CS):
        assert [levels(w or b"")[0] for w in weights(cursor, id_, values)] == plain


@pytest.mark.parametrize(
    "id_", [45, 224, 246, AI_CI, AS_CI, AS_CS], ids=lambda i: COLLATIONS[i].name
)
def test_no_pair_contracts(cursor: Any, id_: int) -> None:
    """Check each pair of the alphabet side by side, ideographs and syllables by a few examples."""
    name, (first, last) = COLLATIONS[id_].name, PICTOGRAPHS
    many = [(0x3400, 0x9FFF), (0xAC00, 0xD7A3), (first, last)]
    sample = [c for c in alphabet() if not any(a < ord(c) < b - 1 for a, b in many)]
    single = {
        c: levels(w or b"")
        for c, w in zip(
            sample, weights(cursor, id_, [c.encode() for c in sample], pad=False), strict=True
        )
    }
    for i, a in enumerate(sample):
        text = a + a.join(sample[i:]) + a
        cursor.execute(f"SELECT WEIGHT_STRING(_utf8mb4 %s COLLATE {name})", (text,))
        depth = len(single[a])
        expected = (b"".join(single[c][level] for c in text) for level in range(depth))
        assert cursor.fetchone()[0] == b"\0\0".join(expected), a


def test_both_versions_weigh_alike(cursor: Any, older: Any) -> None:
    """Check the whole alphabet and texts, so that results for either version hold for both."""
    for id_, row in COLLATIONS.items():
        wide = row.rule in ("fold", "exact")
        narrow = row.charset == "utf8mb3"
        values = (
            [c.encode() for c in alphabet() if not (narrow and ord(c) > 0xFFFF)] if wide else []
        )
        values += texts(id_, seed=2, count=1000)
        assert weights(cursor, id_, values) == weights(older, id_, values), row.name


# ---------------------------------------------------------------- whole texts


def texts(id_: int, seed: int, count: int) -> list[bytes]:
    """Return short texts of tricky characters in the character set of the collation."""
    rng, row = random.Random(seed), COLLATIONS[id_]
    codecs = {"utf8mb3": "utf-8", "utf8mb4": "utf-8", "latin1": "cp1252", "gb18030": "gb18030"}
    codecs |= {"utf16": "utf-16-be", "utf16le": "utf-16-le", "ucs2": "utf-16-be"}
    codecs |= {"utf32": "utf-32-be", "gbk": "gbk", "sjis": "shift_jis", "cp932": "cp932"}
    codecs |= {"big5": "big5", "euckr": "euc_kr", "gb2312": "gb2312", "ujis": "euc_jp"}
    codec = codecs.get(row.charset, "euc_jp" if row.charset == "eucjpms" else "ascii")
    encoded: Callable[[str], bytes] = lambda text: text.encode(codec, "ignore")  # noqa: E731
    bmp = row.charset in ("utf8mb3", "ucs2")
    usable = [c for c in TRICKY if encoded(c) and not (bmp and ord(c) > 0xFFFF)]
    out = {encoded("".join(rng.choices(usable, k=rng.randrange(5)))) for _ in range(count)}
    out |= {value + encoded(" ") for value in list(out)[: count // 4]}
    return sorted(out)


@pytest.mark.parametrize("id_", COLLATIONS, ids=lambda i: COLLATIONS[i].name)
def test_equal_weights_have_equal_forms(cursor: Any, id_: int) -> None:
    values = texts(id_, seed=id_, count=20_000)
    telling = assert_equal_means_equal(id_, values, weights(cursor, id_, values))
    if COLLATIONS[id_].pads or COLLATIONS[id_].rule == "fold":
        assert telling > 100  # different texts do have equal forms


@pytest.mark.parametrize("id_", COLLATIONS, ids=lambda i: COLLATIONS[i].name)
def test_the_operator_agrees(cursor: Any, id_: int) -> None:
    """Compare neighbours by weight with ``=``: equal texts have the same form or no form."""
    row, canonical = COLLATIONS[id_], canonical_text(id_)
    assert canonical is not None
    values = texts(id_, seed=-id_, count=4000)
    order = {v: w or b"" for v, w in zip(values, weights(cursor, id_, values), strict=True)}
    values.sort(key=lambda v: order[v])
    pairs = [(a, b) for i, a in enumerate(values) for b in values[i + 1 : i + 3]]
    rows = json.dumps([{"a": a.hex(), "b": b.hex()} for a, b in pairs])
    cursor.execute(
        f"SELECT CONVERT(UNHEX(a) USING `{row.charset}`) COLLATE `{row.name}` ="
        f" CONVERT(UNHEX(b) USING `{row.charset}`) FROM JSON_TABLE(%s, '$[*]' COLUMNS"
        " (n FOR ORDINALITY, a VARCHAR(99) PATH '$.a', b VARCHAR(99) PATH '$.b')) j ORDER BY n",
        (rows,),
    )
    for (a, b), (equal,) in zip(pairs, cursor.fetchall(), strict=True):
        one, two = canonical(a), canonical(b)
        if equal and one is not None and two is not None:
            assert one == two, (a, b)


def test_a_wrong_rule_is_noticed(cursor: Any) -> None:
    """Show that the checks can fail: utf8mb4_bin's rule does not fit utf8mb4_general_ci."""
    values = texts(45, seed=1, count=2000)
    answers = weights(cursor, 45, values)
    with pytest.raises(AssertionError):
        assert_equal_means_equal(46, values, answers)
