"""What is not known is said once, and counted each time."""

from __future__ import annotations

import pytest

from autoinstr.libraries.unknown import met, not_known


def test_said_once_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    before = met()
    for version in ("v9.1", "v9.2", "v9.1"):
        not_known("%s %s is not one that autoinstr knows", "a router", version)
    assert [record.getMessage()[:13] for record in caplog.records] == ["a router v9.1", "a router v9.2"]
    assert met() == before + 3
