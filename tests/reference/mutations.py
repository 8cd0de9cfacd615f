"""Damages files the way disks, editors, scripts and enemies do: seeded mutations of bytes, lines and numbers."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
Value = TypeVar("Value")

ODD_NUMBERS = (
    b"nan", b"NaN", b"inf", b"-Infinity", b"-1", b"-0", b"1e999", b"1e39", b"-99999999999999999999", b"2147483648",
    b"4294967295", b"1000000000", b"0x10", b"1e", b"1_0", b"1,5", b"", b"abc", b"\xd9\xa1", b"1.5", b"0", b"9" * 5000,
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")
COUNTS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8, 0x10000000)


def choose(options: Sequence[Value], rng: Rng) -> Value:
    """Return one of some values."""
    return options[int(rng.integers(len(options)))]


def truncated(content: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return content[: int(rng.integers(len(content)))]


def spoilt_bytes(content: bytes, rng: Rng) -> bytes:
    """Overwrite one to four bytes."""
    spoilt = bytearray(content)
    for position in rng.integers(len(content), size=int(rng.integers(1, 5))):
        spoilt[position] = choose((0, 0xFF, 0x80, int(rng.integers(256))), rng)
    return bytes(spoilt)


def spoilt_count(content: bytes, rng: Rng) -> bytes:
    """Overwrite four bytes with a count that is too large, negative or zero."""
    position = 4 * int(rng.integers(max(1, len(content) // 4))) + int(rng.integers(4) * (rng.random() < 0.5))
    return content[:position] + choose(COUNTS, rng).to_bytes(4, "little") + content[position + 4 :]


def moved_bytes(content: bytes, rng: Rng) -> bytes:
    """Leave out a piece, write it twice, or put noise in its place."""
    start, end = sorted(rng.integers(len(content) + 1, size=2).tolist())
    end = min(end, start + 64)
    middle = choose((b"", 2 * content[start:end], rng.bytes(end - start)), rng)
    return content[:start] + middle + content[end:]


def moved_lines(content: bytes, rng: Rng) -> bytes:
    """Swap two lines, or leave one out, write it twice, empty it, or break it in two."""
    lines = content.split(b"\n")
    one, other = rng.integers(len(lines), size=2).tolist()
    line = lines[one]
    middle = int(rng.integers(len(line) + 1))
    if rng.random() < 0.4:
        lines[one], lines[other] = lines[other], line
    else:
        lines[one : one + 1] = choose(([], [line, line], [b""], [line[:middle], line[middle:]], [b" "]), rng)
    return b"\n".join(lines)


def odd_number(content: bytes, rng: Rng) -> bytes:
    """Put something odd in the place of a number."""
    start = int(rng.integers(len(content)))
    match = NUMBER.search(content, start) or NUMBER.search(content)
    if match is None:
        return content + choose(ODD_NUMBERS, rng)
    return content[: match.start()] + choose(ODD_NUMBERS, rng) + content[match.end() :]


def wrong_count(content: bytes, rng: Rng) -> bytes:
    """Leave out some numbers of a line, or add some."""
    lines = content.split(b"\n")
    one = int(rng.integers(len(lines)))
    words = lines[one].split(b" ")
    words = choose((words[: -int(rng.integers(1, 80))], words + words[-int(rng.integers(1, 80)) :]), rng)
    lines[one] = b" ".join(words)
    return b"\n".join(lines)


def other_encoding(content: bytes, rng: Rng) -> bytes:
    """Write the text in another encoding, with other line ends, or with a character that is not ASCII."""
    text = content.decode("latin1")
    position = int(rng.integers(len(text) + 1))
    accented = (text[:position] + "é\u0661" + text[position:]).encode()
    marked, carriage = b"\xef\xbb\xbf" + content, content.replace(b"\n", choose((b"\r\n", b"\r", b"\x0b"), rng))
    return choose((text.encode("utf-16"), text.encode("utf-32"), accented, marked, carriage), rng)


def replaced(content: bytes, rng: Rng) -> bytes:
    """Put something else in the place of the whole."""
    size = int(rng.integers(400))
    return choose((b"", b"\n", b" \n\n ", b"\0" * size, rng.bytes(size), b"[" * size, b"{", b"null", content * 2), rng)


Mutation = Callable[[bytes, Rng], bytes]
OF_BYTES: tuple[Mutation, ...] = (truncated, spoilt_bytes, spoilt_count, moved_bytes, replaced)
OF_TEXT: tuple[Mutation, ...] = (*OF_BYTES, moved_lines, odd_number, odd_number, wrong_count, other_encoding)


def mutate(content: bytes, rng: Rng, *, text: bool) -> bytes:
    """Damage a file once, and now and then a second time."""
    mutations = OF_TEXT if text else OF_BYTES
    damaged = choose(mutations, rng)(content, rng)
    return choose(mutations, rng)(damaged, rng) if damaged and rng.random() < 0.2 else damaged
