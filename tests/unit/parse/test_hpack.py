"""What is read of header blocks, held against the package `hpack`: its encoder, and its decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hpack import Decoder, Encoder, HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given, settings
from hypothesis import strategies as st

from autoinstr.parse import hpack_fields, hpack_tables, huffman
from autoinstr.parse.hpack_tables import NAMES, TEXTS, UNKNOWN, Blocks, HeaderTable, HeaderTables
from autoinstr.parse.texts import Texts

encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


def joined(texts: list[bytes]) -> Texts:
    size = np.array([len(text) for text in texts], np.int64)
    return Texts(np.frombuffer(b"".join(texts) + bytes(hpack_fields.SLACK), np.uint8), np.cumsum(size) - size, size)


# --- Huffman codes


@settings(deadline=None)
@given(st.lists(st.binary(max_size=90), min_size=1))
def test_strings(texts: list[bytes]) -> None:
    said, right = huffman.decode(joined([encode(text) for text in texts]), cut=np.zeros(len(texts), np.bool_))
    assert right.all()
    assert [said.text(row) for row in range(len(texts))] == texts


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=12) | st.integers(1, 40).map(lambda size: b"\xff" * size), min_size=1))
def test_anything_at_all(coded: list[bytes]) -> None:
    said, right = huffman.decode(joined(coded), cut=np.zeros(len(coded), np.bool_))
    for row, text in enumerate(coded):
        try:
            wanted = decode_huffman(text)
        except HPACKError:
            wanted = None
        assert (said.text(row) if right[row] else None) == wanted


@pytest.mark.parametrize("size", range(1, 40))
def test_a_string_that_is_cut(size: int) -> None:
    text = bytes(range(32, 127))
    said, right = huffman.decode(joined([encode(text)[:size]]), cut=np.ones(1, np.bool_))
    assert right.all()
    assert text.startswith(said.text(0))
    assert len(encode(text[: len(said.text(0)) + 1])) >= size


# --- blocks


class Reader:
    """Reads blocks of several directions; values of numbers are told as texts too."""

    def __init__(self, directions: int) -> None:
        self.meant: list[bytes] = []
        self.tables = HeaderTables(self.meaning)
        self.directions = [HeaderTable() for _ in range(directions)]

    def meaning(self, _: int, value: bytes) -> int:
        self.meant.append(value)
        return len(self.meant) - 1

    def read(self, blocks: list[list[bytes]]) -> list[list[list[tuple[bytes, bytes]] | None]]:
        """Of each direction the fields of each block; None: it is wrong."""
        some = [index for index, of in enumerate(blocks) if of]
        flat = [block for of in blocks for block in of]
        if not flat:
            return [[] for _ in blocks]
        texts = joined(flat)
        first = np.cumsum([0] + [len(blocks[index]) for index in some])[:-1]
        fields = hpack_fields.read(texts.data, texts.at, texts.size)
        lost = np.zeros(len(flat), np.bool_)
        found = self.tables.read(texts.data, Blocks([self.directions[index] for index in some], first, lost), fields)
        told: list[list[tuple[bytes, bytes]]] = [[] for _ in flat]
        for block, name, value in zip(found.block.tolist(), found.name.tolist(), found.value.tolist(), strict=True):
            told[block].append(self.field(name, value))
        ordered = iter([None if wrong else one for one, wrong in zip(told, found.wrong.tolist(), strict=True)])
        return [[next(ordered) for _ in of] for of in blocks]

    def field(self, name: int, value: int) -> tuple[bytes, bytes]:
        if name == UNKNOWN:
            return b"", b""
        if name in TEXTS:
            return NAMES[name - 1], hpack_tables.texts_of(self.tables.texts, np.array([value])).text(0)
        return NAMES[name - 1], self.meant[value]


names = st.sampled_from([*NAMES, *NAMES, b"user-agent", b"cookie", b"x-id", b"x-other", b"grpc-message"])
values = st.sampled_from([b"", b"/", b"/index.html", b"GET", b"200", b"a" * 130, b"\x00\xff ~"]) | st.binary(
    max_size=40
)
header_lists = st.lists(st.tuples(names, values, st.booleans()), max_size=12)
turns = st.lists(
    st.tuples(st.integers(0, 2), header_lists, st.booleans(), st.sampled_from([None, None, None, 0, 60, 4096, 16384])),
    max_size=30,
)


def wanted(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in fields if name in NAMES]


@pytest.mark.parametrize("few", [0, 1 << 30])  # all at once, one by one
@settings(deadline=None, max_examples=150)
@given(said=turns, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_what_the_encoder_wrote(few: int, said: list[Any], cuts: list[int]) -> None:
    encoders, reader = [Encoder() for _ in range(3)], Reader(3)
    batch: list[list[bytes]] = [[], [], []]
    expected: list[list[Any]] = [[], [], []]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpack_fields, "_FEW", few)
        for turn, (of, fields, huffman_coded, size) in enumerate(said):
            if size is not None:
                encoders[of].header_table_size = size
            batch[of].append(encoders[of].encode(fields, huffman=huffman_coded))
            expected[of].append(wanted([(name, value) for name, value, _ in fields]))
            if turn in cuts or turn == len(said) - 1:
                assert reader.read(batch) == expected
                batch, expected = [[], [], []], [[], [], []]


@pytest.mark.parametrize("few", [0, 1 << 30])
@settings(deadline=None, max_examples=300)
@given(blocks=st.lists(st.binary(max_size=30), min_size=1, max_size=12))
def test_blocks_of_anything(few: int, blocks: list[bytes]) -> None:
    reader = Reader(len(blocks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpack_fields, "_FEW", few)
        told = reader.read([[block] for block in blocks])
    for block, (fields,) in zip(blocks, told, strict=True):
        try:
            decoded = Decoder().decode(block, raw=True)
        except HPACKError:
            continue  # it looks at all values, and at what each index refers to
        assert fields == wanted([(bytes(name), bytes(value)) for name, value in decoded])


def test_a_table_is_found_where_it_was_moved_to() -> None:
    encoder, reader = Encoder(), Reader(1)
    fields = [[(b":path", f"/{turn}/{index}".encode()) for index in range(60)] for turn in range(6)]
    encoder.header_table_size = 65536
    for some in [*fields, *fields]:
        assert reader.read([[encoder.encode(some)]]) == [[some]]
    assert reader.directions[0].room == 2048


def test_texts_that_no_table_refers_to_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, encoders = Reader(2), [Encoder(), Encoder()]
    known = [(b":path", b"/known")]
    for turn in range(400):
        some = [(b":path", f"/{turn}".encode() * 40)]
        blocks = [[encoder.encode(known), encoder.encode(some)] for encoder in encoders]
        assert reader.read(blocks) == [[known, [(name, value[:320]) for name, value in some]]] * 2
    assert len(reader.tables.texts) <= 1 << 18
    monkeypatch.setattr(hpack_tables, "MAX_ALL_TEXTS", 0)
    for turn in range(400):
        told = reader.read([[encoders[0].encode(known)], [encoders[1].encode([(b":path", f"/{turn}".encode() * 40)])]])
        assert told[0][0] in ([known[0]], [(b"", b"")])
    assert told[0][0] == [(b"", b"")]


def test_meanings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpack_tables, "MAX_MEANINGS", 8)
    reader, encoder = Reader(1), Encoder()
    for turn in range(20):
        fields = [(b"content-length", f"{turn}{index}".encode()) for index in range(turn)]
        assert reader.read([[encoder.encode(fields)]]) == [[fields]]
    assert len(reader.tables._known) <= 20


def test_tables_of_dropped_connections_are_used_again() -> None:
    reader = Reader(1)
    for _ in range(50):
        assert reader.read([[Encoder().encode([(b":path", b"/a")])]]) == [[[(b":path", b"/a")]]]
        reader.tables.release(reader.directions[0])
        reader.directions[0] = HeaderTable()
    assert reader.tables._used == 128
