from __future__ import annotations

import logging

import pytest

from autoinstr.export.limited_log import MAX_KEYS, LimitedLog


def test_the_same_key_is_written_once_in_20_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    limited = LimitedLog(logging.getLogger("test"), lambda: now[0])
    for _ in range(5):
        limited.warning("refused", "refused: 401")
    limited.warning("busy", "busy: 503")
    assert [record.getMessage() for record in caplog.records] == ["refused: 401", "busy: 503"]
    now[0] += 20
    limited.warning("refused", "refused: 401")
    assert caplog.records[-1].getMessage() == "refused: 401 (4 times more since the last such line)"


def test_keys_are_bounded() -> None:
    limited = LimitedLog(logging.getLogger("test"), lambda: 0.0)
    for number in range(3 * MAX_KEYS):
        limited.warning(str(number), "")
    assert len(limited._seen) <= MAX_KEYS
