"""Texts that nobody writes but an attacker, or a program that dumps data: kinds of them, made from a seed."""

import base64
import random
import uuid
from collections.abc import Callable, Mapping

LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
RARE = "bcdfghjklmnpqrstvwxz"
DIGITS = "0123456789"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
PRINTABLE = LOWER + UPPER + DIGITS + PUNCTUATION
CONTROL = "".join(map(chr, [*range(1, 9), 11, 12, *range(14, 32), 127]))

Kind = Callable[[random.Random], str]
"""Makes the next piece of a text."""


def _word(letters: str, least: int, most: int, before: str = "", after: str = " ") -> Kind:
    """Make words of random letters, with something around each."""
    return lambda rng: before + "".join(rng.choices(letters, k=rng.randint(least, most))) + after


def _script(first: int, last: int, least: int = 2, most: int = 9) -> Kind:
    """Make words of random assigned letters of a range of Unicode."""
    letters = "".join(char for char in map(chr, range(first, last + 1)) if char.isprintable())
    return _word(letters, least, most)


def _title(size: int) -> Kind:
    """Make words with a large first letter."""
    return lambda rng: rng.choice(UPPER) + "".join(rng.choices(LOWER, k=size)) + " "


def _alternating(rng: random.Random) -> str:
    """Make one small and one large letter."""
    return rng.choice(LOWER) + rng.choice(UPPER)


def _random_case(rng: random.Random) -> str:
    """Make a word in which each letter is large or small by chance."""
    return "".join(rng.choices(LOWER + UPPER, k=rng.randint(3, 9))) + " "


def _camel(rng: random.Random) -> str:
    """Make a name of random words, each with a large first letter."""
    return "".join(rng.choice(UPPER) + "".join(rng.choices(LOWER, k=rng.randint(1, 5))) for _ in range(3)) + " "


def _table(rng: random.Random) -> str:
    """Make a line of a table of numbers."""
    return " ".join(f"{rng.uniform(-1000, 1000):10.4f}" for _ in range(6)) + "\n"


def _between(letters: str, marks: str) -> Kind:
    """Make one character of each."""
    return lambda rng: rng.choice(letters) + rng.choice(marks)


def _base64(rng: random.Random) -> str:
    """Make a line of base64."""
    return base64.b64encode(rng.randbytes(57)).decode() + "\n"


def _runs(chars: str, most: int) -> Kind:
    """Make a run of one character."""
    return lambda rng: rng.choice(chars) * rng.randint(1, most)


def _escapes(rng: random.Random) -> str:
    """Make an escape as JSON or Python writes it."""
    return rng.choice((f"\\u{rng.randrange(65536):04x}", f"\\x{rng.randrange(256):02x}", f"%{rng.randrange(256):02X}"))


def _indented(rng: random.Random) -> str:
    """Make a short line after a random indent."""
    return "\n" + rng.choice((" " * rng.randint(0, 40), "\t" * rng.randint(0, 8))) + rng.choice(PRINTABLE)


def _alphabet(size: int, spaces: int) -> Kind:
    """Make a long piece of a few characters, drawn anew for each, and so many spaces among them."""
    return lambda rng: "".join(rng.choices(rng.sample(PRINTABLE + "\n\t", size) + [" "] * spaces, k=2000))


def _letters(size: int) -> Kind:
    """Make a long piece of words of a few small letters, drawn anew for each."""
    return lambda rng: "".join(rng.choices([*rng.sample(LOWER, size), *" " * (size // 3)], k=2000))


def _repeated(rng: random.Random) -> str:
    """Make one short piece of any characters, again and again."""
    return "".join(rng.choices(PRINTABLE + " \n\t", k=rng.randint(2, 7))) * 400


def _mixed(rng: random.Random) -> str:
    """Make some pieces of a plain kind."""
    kind = rng.choice(list(PLAIN.values()))
    return "".join(kind(rng)[:200] for _ in range(20))


PLAIN: Mapping[str, Kind] = {
    **{f"rare consonants {k}": _word(RARE, k, k) for k in (2, 3, 4, 5, 8)},
    **{f"words {k}": _word(LOWER, k, k) for k in (1, 2, 3, 4, 5, 6, 8)},
    **{f"capital words {k}": _word(UPPER, k, k) for k in (1, 2, 3, 5, 8)},
    **{f"title words {k}": _title(k) for k in (1, 2, 4)},
    "vowels": _word("aeiou", 3, 6),
    "jqxz": _word("jqxz", 2, 6),
    "letters without spaces": _word(LOWER, 9, 9, after=""),
    "rare consonants without spaces": _word(RARE, 9, 9, after=""),
    "capitals without spaces": _word(UPPER, 9, 9, after=""),
    "random case": _random_case,
    "alternating case": _alternating,
    "camel case": _camel,
    "lines of one letter": _between(LOWER, "\n"),
    "lines of short words": _word(LOWER, 2, 4, after="\n"),
    "tabs": _word(LOWER, 1, 4, after="\t"),
    "letters with punctuation between": _between(LOWER, PUNCTUATION),
    "capitals with punctuation between": _between(UPPER, PUNCTUATION),
    "digits with punctuation between": _between(DIGITS, PUNCTUATION),
    "short words with punctuation between": lambda rng: _word(LOWER, 2, 4, after="")(rng) + rng.choice(PUNCTUATION),
    "dots": _between(LOWER, "."),
    "underscores": _word(LOWER, 1, 3, after="_"),
    "capital-digit pairs": _between(UPPER, DIGITS),
    "letter-digit pairs": _between(LOWER, DIGITS),
    "letters and digits": _word(LOWER + DIGITS, 8, 20),
    "letters, capitals and digits": _word(LOWER + UPPER + DIGITS, 8, 20),
    "identifiers": lambda rng: str(uuid.UUID(int=rng.getrandbits(128))) + "\n",
    "punctuation": _word(PUNCTUATION, 9, 9, after=""),
    "punctuation with spaces": _word(PUNCTUATION, 1, 3),
    "single punctuation with spaces": _word(PUNCTUATION, 1, 1),
    "punctuation with lines": _word(PUNCTUATION, 1, 2, after="\n"),
    "brackets": _word("()[]{}<>", 5, 20),
    "runs of punctuation": _runs(PUNCTUATION, 30),
    "runs of letters": _runs(LOWER, 30),
    "runs of anything": _runs(PRINTABLE + " \n\t", 6),
    "digits": _word(DIGITS, 80, 80, after="\n"),
    "single digits with spaces": _word(DIGITS, 1, 1),
    "short numbers": _word(DIGITS, 1, 3),
    "numbers": _word(DIGITS, 1, 9),
    "table of numbers": _table,
    "numbers with commas": lambda rng: f"{rng.randrange(10**9):,},",
    "decimals": lambda rng: f"{rng.random():.6f}\t",
    "bits": _word("01", 8, 64),
    "hexadecimal": _word("0123456789abcdef", 64, 64, after="\n"),
    "hexadecimal bytes": _word("0123456789abcdef", 2, 2),
    "capital hexadecimal": _word("0123456789ABCDEF", 32, 32, after="\n"),
    "base64": _base64,
    "base32": _word("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, 56),
    "bases of genes": _word("ACGT", 60, 60, after="\n"),
    "printable": _word(PRINTABLE, 9, 9, after=""),
    "printable with spaces": _word(PRINTABLE, 1, 9),
    "printable with all white space": _word(PRINTABLE + "      \n\n\t\t", 40, 40, after=""),
    "control": _word(CONTROL, 9, 9, after=""),
    "control and letters": _between(LOWER, CONTROL),
    "control and spaces": _between(" ", CONTROL),
    "white space": _word(" \n\t", 9, 9, after=""),
    "carriage returns": lambda rng: _word(LOWER, 1, 6, after=rng.choice(("\r\n", "\r", "\n\r")))(rng),
    "indented": _indented,
    "escapes": _escapes,
    "addresses": lambda rng: (
        ".".join(str(rng.randrange(256)) for _ in range(4)) + ":" + str(rng.randrange(65536)) + " "
    ),
    "latin with accents": _script(0xC0, 0x24F),
    "accents alone": _script(0x300, 0x36F),
    "letters with accents above": _between(LOWER, "".join(map(chr, range(0x300, 0x370)))),
    "phonetic": _script(0x250, 0x2AF),
    "greek": _script(0x391, 0x3C9),
    "cyrillic": _script(0x410, 0x44F),
    "rare cyrillic": _script(0x460, 0x52F),
    "armenian": _script(0x531, 0x586),
    "hebrew": _script(0x5D0, 0x5EA),
    "hebrew with points": _script(0x591, 0x5F4),
    "arabic": _script(0x621, 0x64A),
    "rare arabic": _script(0x66E, 0x6D3),
    "syriac and thaana": _script(0x700, 0x7BF),
    "devanagari": _script(0x905, 0x94D),
    "bengali": _script(0x985, 0x9CD),
    "tamil": _script(0xB85, 0xBCD),
    "telugu": _script(0xC05, 0xC4D),
    "sinhala": _script(0xD85, 0xDDF),
    "thai": _script(0xE01, 0xE4E),
    "lao and tibetan": _script(0xE81, 0xFBC),
    "burmese and georgian": _script(0x1000, 0x10FF),
    "ethiopic": _script(0x1200, 0x137C),
    "khmer": _script(0x1780, 0x17DD),
    "rare letters of two bytes more": _script(0x13A0, 0x1DBF),
    "latin extended": _script(0x1E00, 0x1EFF),
    "greek extended": _script(0x1F00, 0x1FFE),
    "marks and symbols": _script(0x2010, 0x27BF),
    "arrows": _script(0x2190, 0x21FF, 1, 3),
    "boxes": _script(0x2500, 0x259F),
    "braille": _script(0x2800, 0x28FF),
    "kana": _script(0x3041, 0x30FE),
    "chinese": _script(0x4E00, 0x9FFF),
    "rare chinese": _script(0x3400, 0x4DBF),
    "korean": _script(0xAC00, 0xD7A3),
    "rare asian": _script(0xA000, 0xABFF),
    "private use": lambda rng: chr(rng.randrange(0xE000, 0xF8FF)),
    "presentation forms": _script(0xFB00, 0xFDFF),
    "full width": _script(0xFF01, 0xFF9F),
    "emoji": _script(0x1F300, 0x1FAF6, 1, 4),
    "joined emoji": lambda rng: "\u200d".join(chr(rng.randrange(0x1F400, 0x1F650)) for _ in range(3)) + "\ufe0f ",
    "flags": _script(0x1F1E6, 0x1F1FF, 2, 2),
    "mathematical letters": _script(0x1D400, 0x1D7FF),
    "ancient scripts": _script(0x10000, 0x12FFF),
    "rarest chinese": _script(0x20000, 0x2A6DF),
    "tags": lambda rng: chr(rng.randrange(0xE0020, 0xE007F)),
    "all of Unicode": lambda rng: chr(rng.choice((rng.randrange(0x80, 0xD800), rng.randrange(0xE000, 0x110000)))),
}
"""Kind of text to what makes its next piece."""
TINY: Mapping[str, Kind] = {
    **{f"alphabet of {n}": _alphabet(n, 0) for n in (2, 3)},
    **{f"alphabet of {n} and spaces": _alphabet(n, n // 2) for n in (2, 3)},
}
"""Texts of two or three characters: of these there are the most, and the densest."""
SEARCHED: Mapping[str, Kind] = {"repeated piece": _repeated}
"""What an attacker would search through. It is in the fit, but no table covers all of it: its figure is said apart."""
DRAWN: Mapping[str, Kind] = {
    **{f"alphabet of {n}": _alphabet(n, 0) for n in (5, 8, 13)},
    **{f"alphabet of {n} and spaces": _alphabet(n, n // 2) for n in (5, 8, 13)},
    **{f"words of {n} letters": _letters(n) for n in (2, 3, 5, 8)},
    "mixed": _mixed,
}
"""Kinds whose texts differ: the characters themselves are drawn, so only many texts show what one can be."""
KINDS: Mapping[str, Kind] = {**PLAIN, **DRAWN, **TINY, **SEARCHED}


def crafted(kind: str, seed: int, size_bytes: int) -> str:
    """Return a text of `kind`, at least `size_bytes` long; the same for the same seed."""
    rng, pieces, size = random.Random(f"{kind} {seed}"), [], 0
    while size < size_bytes:
        pieces.append(KINDS[kind](rng))
        size += len(pieces[-1].encode("utf-8"))
    return "".join(pieces)
