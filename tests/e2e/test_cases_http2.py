"""The truth of the torture list of HTTP/2, held against another reading of the same bytes: hyperframe's and hpack's."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from cases import Talk
from cases_http2 import CASES
from conversation import CLIENT, SERVER, Say
from hpack import Decoder, HPACKError
from http2_frames import PREFACE
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PushPromiseFrame
from truth import SERVER as SERVED


@dataclass
class Side:
    """What one side said on one stream."""

    heads: list[dict[str, str]] = field(default_factory=list)
    size: int = 0


def read(said: bytes) -> dict[int, Side]:
    """Streams, by number; what is after an error is left out."""
    decoder, sides, block, promised, at = Decoder(), dict[int, Side](), b"", False, 0
    decoder.max_allowed_table_size = 1 << 16
    decoder.max_header_list_size = 1 << 20
    while at + 9 <= len(said):
        frame, length = Frame.parse_frame_header(memoryview(said[at : at + 9]))
        if at + 9 + length > len(said):
            break
        try:
            frame.parse_body(memoryview(said[at + 9 : at + 9 + length]))
        except HyperframeError:  # of a kind that nobody here reads
            assert frame.type > 9
        at += 9 + length
        side = sides.setdefault(frame.stream_id, Side())
        if isinstance(frame, DataFrame):
            side.size += len(frame.data)
        if isinstance(frame, (HeadersFrame, ContinuationFrame, PushPromiseFrame)):
            promised = isinstance(frame, PushPromiseFrame) or (promised and bool(block))
            block += frame.data
            if "END_HEADERS" in frame.flags:
                try:
                    head = dict(decoder.decode(block))
                except HPACKError:
                    break
                block = b""
                if not promised:
                    side.heads.append(head)
    return sides


def requests(talk: Talk) -> dict[str, tuple[Side, Side]]:
    """What the client and the server said of each path."""
    found = {}
    for steps in talk.connections:
        said = {who: b"".join(s.data for s in steps if isinstance(s, Say) and s.who == who) for who in (CLIENT, SERVER)}
        if said[CLIENT].startswith((b"GET", b"POST")):
            continue  # begins with HTTP/1
        asked = read(said[CLIENT].partition(PREFACE)[2])
        told = read(said[SERVER])
        for number, side in asked.items():
            if side.heads:
                found[side.heads[0].get(":path", "").partition("?")[0]] = (side, told.get(number, Side()))
    return found


@pytest.mark.parametrize("name", [name for name in CASES if "upgrade" not in name])
def test_truth_is_what_the_frames_say(name: str) -> None:
    known = requests(CASES[name])
    for truth in [truth for _, truth in CASES[name].expected if truth.kind == SERVED]:
        if not truth.path.startswith("/"):
            continue  # of which the path is not to be known
        asked, told = known[truth.path]
        final = [head for head in told.heads if not head.get(":status", "2").startswith("1")]
        sizes = (truth.request_size, truth.response_size)
        assert all(size in (None, read) for size, read in zip(sizes, (asked.size, told.size), strict=True)), truth
        if truth.rpc:
            code = [head["grpc-status"] for head in final if "grpc-status" in head]
            assert truth.status is None or code == [str(truth.status)]
        else:
            assert truth.method in (asked.heads[0][":method"], "_OTHER")
            assert truth.status == (int(final[0][":status"]) if final else 0)
