"""Canonical forms of text: values that are equal on the server have equal forms.

Contents: the collations that drc can follow, and for each collation a function from the bytes of
a column to canonical bytes. Two values that the server takes for equal in a unique key get the
same form; values that the server tells apart may share a form, rarely. The function returns None
for a value without that promise, and a collation without any promise has no function.

Not here: row images, keys, hashes (``slots.py``).

1. A form is never a guess: a character outside the alphabet of a table, undecodable bytes, and
   every collation not listed here give None.
2. Trailing spaces are removed under a PAD SPACE collation, because such a collation compares as if
   the shorter text went on with spaces.
3. A prefix is cut before any other step, in characters.

The ids, character sets and pad attributes are from information_schema.collations of MySQL 9.7.4;
``tests/integration/test_collation_server.py`` checks all contents against a server.
Source: MySQL 9.7 manual 12.10 "Supported Character Sets and Collations"; ``strings/ctype-*.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from drc.rows.collation_folds import ALPHABET, GROUPS, NOT_EXACT, PICTOGRAPHS, SPACES

Canonical = Callable[[bytes], bytes | None]

BINARY = 63
# Longer than any column: the prefix length that cuts nothing.
_WHOLE = 1 << 32


class Collation(NamedTuple):
    """A collation; ``rule`` selects the function in :func:`canonical_text`."""

    name: str
    charset: str
    pads: bool
    rule: str


def _rows(rule: str, charset: str, *rows: tuple[int, str], pads: bool) -> dict[int, Collation]:
    return {id_: Collation(name, charset or name[:-4], pads=pads, rule=rule) for id_, name in rows}


COLLATIONS: dict[int, Collation] = {
    **_rows("bytes", "binary", (63, "binary"), pads=False),
    **_rows("utf8", "utf8mb4", (309, "utf8mb4_0900_bin"), pads=False),
    **_rows("utf8", "", (46, "utf8mb4_bin"), (83, "utf8mb3_bin"), pads=True),
    **_rows(
        "bytes",
        "",
        *((43, "macce_bin"), (47, "latin1_bin"), (50, "cp1251_bin"), (53, "macroman_bin")),
        *((58, "cp1257_bin"), (64, "armscii8_bin"), (65, "ascii_bin"), (66, "cp1250_bin")),
        *((67, "cp1256_bin"), (68, "cp866_bin"), (69, "dec8_bin"), (70, "greek_bin")),
        *((71, "hebrew_bin"), (72, "hp8_bin"), (73, "keybcs2_bin"), (74, "koi8r_bin")),
        *((75, "koi8u_bin"), (77, "latin2_bin"), (78, "latin5_bin"), (79, "latin7_bin")),
        *((80, "cp850_bin"), (81, "cp852_bin"), (82, "swe7_bin"), (89, "tis620_bin")),
        (93, "geostd8_bin"),
        pads=True,
    ),
    **_rows("bytes", "latin1", (49, "latin1_general_cs"), pads=True),
    **_rows(
        "multibyte",
        "",
        *((84, "big5_bin"), (85, "euckr_bin"), (86, "gb2312_bin"), (87, "gbk_bin")),
        *((88, "sjis_bin"), (91, "ujis_bin"), (96, "cp932_bin"), (98, "eucjpms_bin")),
        (249, "gb18030_bin"),
        pads=True,
    ),
    **_rows("utf-16-be", "", (55, "utf16_bin"), (90, "ucs2_bin"), pads=True),
    **_rows("utf-16-le", "", (62, "utf16le_bin"), pads=True),
    **_rows("utf-32-be", "", (61, "utf32_bin"), pads=True),
    **_rows(
        "fold", "utf8mb4", (255, "utf8mb4_0900_ai_ci"), (305, "utf8mb4_0900_as_ci"), pads=False
    ),
    **_rows("exact", "utf8mb4", (278, "utf8mb4_0900_as_cs"), pads=False),
    **_rows("fold", "utf8mb4", (45, "utf8mb4_general_ci"), (224, "utf8mb4_unicode_ci"), pads=True),
    **_rows("fold", "utf8mb4", (246, "utf8mb4_unicode_520_ci"), pads=True),
    **_rows("fold", "utf8mb3", (33, "utf8mb3_general_ci"), (192, "utf8mb3_unicode_ci"), pads=True),
    **_rows("fold", "utf8mb3", (214, "utf8mb3_unicode_520_ci"), pads=True),
    **_rows("latin1_swedish", "latin1", (8, "latin1_swedish_ci"), pads=True),
    **_rows("latin1_general", "latin1", (48, "latin1_general_ci"), pads=True),
    **_rows("ascii", "ascii", (11, "ascii_general_ci"), pads=True),
    **_rows("gbk", "gbk", (28, "gbk_chinese_ci"), pads=True),
}

# The ids of all collations by character set, also of collations that drc cannot follow.
_IDS = """
armscii8 32 64 | ascii 11 65 | big5 1 84 | binary 63 | cp850 4 80 | cp852 40 81 | cp866 36 68
cp932 95 96 | cp1250 26 34 44 66 99 | cp1251 14 23 50-52 | cp1256 57 67 | cp1257 29 58 59
dec8 3 69 | eucjpms 97 98 | euckr 19 85 | gb2312 24 86 | gb18030 248-250 | gbk 28 87
geostd8 92 93 | greek 25 70 | hebrew 16 71 | hp8 6 72 | keybcs2 37 73 | koi8r 7 74 | koi8u 22 75
latin1 5 8 15 31 47-49 94 | latin2 2 9 21 27 77 | latin5 30 78 | latin7 20 41 42 79
macce 38 43 | macroman 39 53 | sjis 13 88 | swe7 10 82 | tis620 18 89 | ucs2 35 90 128-151 159
ujis 12 91 | utf16 54 55 101-124 | utf16le 56 62 | utf32 60 61 160-183
utf8mb3 33 76 83 192-215 223
utf8mb4 45 46 224-247 255-271 273-275 277-294 296-298 300 303-323
"""


def _character_sets() -> dict[int, str]:
    out = {}
    for row in re.split(r"[|\n]", _IDS.strip()):
        charset, *spans = row.split()
        for span in spans:
            first, _, last = span.partition("-")
            out.update(dict.fromkeys(range(int(first), int(last or first) + 1), charset))
    return out


CHARACTER_SETS = _character_sets()

# Groups of bytes with the same weight, as Latin-1 text; the first byte stands for the group.
_ASCII_CASE = " ".join(chr(c) + chr(c + 32) for c in range(65, 91))
_BYTE_GROUPS = {
    "ascii": _ASCII_CASE,
    "latin1_swedish": "AaÀÁÂÃàáâã Bb CcÇç DdÐð EeÈÉÊËèéêë Ff Gg Hh IiÌÍÎÏìíîï Jj Kk Ll Mm NnÑñ"
    " OoÒÓÔÕòóôõ Pp Qq Rr Ss Tt UuÙÚÛùúû Vv Ww Xx YyÜÝüý Zz [Åå \\ÄÆäæ ]Öö Øø Þþ",
    "latin1_general": _ASCII_CASE + " Àà Áá Ââ Ãã Ää Åå Ææ Çç Èè Éé Êê Ëë Ìì Íí Îî Ïï Ðð Ññ Òò"
    " Óó Ôô Õõ Öö Øø Ùù Úú Ûû Üü Ýý Þþ",
    # gbk_chinese_ci gives '~' the weight of 'Y': strings/ctype-gbk.cc, sort_order_gbk.
    "gbk": _ASCII_CASE.replace("Yy", "Yy~"),
}
_GBK_CHARACTER = re.compile(rb"[\x81-\xfe].|.", re.DOTALL).findall


def _byte_table(groups: str) -> bytes:
    table = bytearray(range(256))
    for group in groups.split():
        first, *others = group.encode("latin-1")
        for other in others:
            table[other] = first
    return bytes(table)


def _characters() -> tuple[dict[int, int], str]:
    """Return (code point → first code point of the group, alphabet of a regular expression)."""
    folds: dict[int, int] = {}
    for group in (*GROUPS.split(), SPACES):
        folds.update(dict.fromkeys(map(ord, group), ord(group[0])))
    first, last = PICTOGRAPHS
    folds.update(dict.fromkeys(range(first, last + 1), first))
    alphabet = "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in ALPHABET)
    return folds, alphabet


_FOLDS, _alphabet = _characters()
_foldable = re.compile(f"[{_alphabet}]*").fullmatch
_inexact = re.compile(f"[{NOT_EXACT}]").search


@cache
def canonical_text(collation: int, prefix: int = 0, *, fixed: bool = False) -> Canonical | None:
    """Return the function from values of a collation to canonical forms, None if unknown.

    :param prefix: the number of characters in the key (bytes for ``binary``); 0 for all.
    :param fixed: the column is CHAR or BINARY: padding never counts, under any collation.
    """
    row = COLLATIONS.get(collation)
    if row is None:
        return None
    size = prefix or _WHOLE
    pad = b"\x00" if collation == BINARY else b" "
    strips = row.pads or fixed
    if row.rule == "bytes":
        return _bytes(size, pad if strips else b"")
    if row.rule in _BYTE_GROUPS and row.rule != "gbk":
        return _translated(size, _byte_table(_BYTE_GROUPS[row.rule]))
    if row.rule == "gbk":
        return _gbk(size, _byte_table(_BYTE_GROUPS["gbk"]))
    if row.rule == "multibyte":
        return _multibyte(size)
    if row.rule == "fold":
        return _folded(size, strips=strips)
    if row.rule == "exact":
        return _exactly(size, strips=strips)
    return _decoded(size, "utf-8" if row.rule == "utf8" else row.rule, strips=strips)


def _bytes(size: int, pad: bytes) -> Canonical:
    """Return a function for single-byte characters, each equal only to itself."""
    if pad:
        return lambda value: value[:size].rstrip(pad)
    return lambda value: value[:size]


def _translated(size: int, table: bytes) -> Canonical:
    """Return a function for single-byte characters, each equal to all characters of the group."""
    return lambda value: value[:size].translate(table).rstrip(b" ")


def _multibyte(size: int) -> Canonical:
    """Return a function for characters of one or more bytes, each equal only to itself.

    A space is never part of a longer character. The function cannot find the end of a prefix, so
    only values that are too short for a cut have a form.
    """
    return lambda value: value.rstrip(b" ") if len(value) <= size else None


def _gbk(size: int, table: bytes) -> Canonical:
    """Return a function for GBK: only ASCII characters ignore case.

    A double-byte character equals only the same bytes, even if the second byte is an ASCII letter.
    """

    def canonical(value: bytes) -> bytes | None:
        characters = _GBK_CHARACTER(value)[:size]
        folded = (c.translate(table) if len(c) == 1 else c for c in characters)
        return b"".join(folded).rstrip(b" ")

    return canonical


def _decoded(size: int, encoding: str, *, strips: bool) -> Canonical:
    """Return a function for decoded text, each character equal only to itself."""

    def canonical(value: bytes) -> bytes | None:
        try:
            text = str(value, encoding)[:size]
        except UnicodeDecodeError:
            return None
        return (text.rstrip(" ") if strips else text).encode()

    return canonical


def _folded(size: int, *, strips: bool) -> Canonical:
    """Return a function for UTF-8, each character equal to all characters of the group."""

    def canonical(value: bytes) -> bytes | None:
        try:
            text = str(value, "utf-8")[:size]
        except UnicodeDecodeError:
            return None
        if text.isascii():
            if not text.isprintable():
                return None
            text = text.upper()
        elif _foldable(text):
            text = text.translate(_FOLDS)
        else:
            return None
        return (text.rstrip(" ") if strips else text).encode()

    return canonical


def _exactly(size: int, *, strips: bool) -> Canonical:
    """Return a function for UTF-8: within the alphabet a character equals only itself."""

    def canonical(value: bytes) -> bytes | None:
        try:
            text = str(value, "utf-8")[:size]
        except UnicodeDecodeError:
            return None
        if not _foldable(text) or _inexact(text):
            return None
        return (text.rstrip(" ") if strips else text).encode()

    return canonical
