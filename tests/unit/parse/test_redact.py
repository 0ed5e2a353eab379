"""No secret leaves in a query string."""

from __future__ import annotations

import numpy as np
import pytest

from autoinstr.parse import redact
from autoinstr.parse.redact import Redactor
from autoinstr.parse.texts import Texts

from .test_routes import texts


def redacted(*queries: str) -> list[str]:
    out = Redactor().redact(texts(list(queries)))
    return [out.text(row).decode() for row in range(len(out))]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=1&b=2", "a=1&b=2"),
        ("token=abc", "token=REDACTED"),
        ("a=1&Access_Token=x=y&c", "a=1&Access_Token=REDACTED&c"),
        ("X-Amz-Signature=00ff&x=1", "X-Amz-Signature=REDACTED&x=1"),
        ("sig=1&api-key=2&client_secret=3", "sig=REDACTED&api-key=REDACTED&client_secret=REDACTED"),
        ("code=4&session=5&sid=6&auth=7", "code=REDACTED&session=REDACTED&sid=REDACTED&auth=REDACTED"),
        ("password=", "password="),
        ("%74oken=x", "%74oken=REDACTED"),
        ("a=1;token=x;y", "a=1;token=REDACTED;REDACTED"),
        ("keyword=shoes&author=bob&country_code=de", "keyword=shoes&author=bob&country_code=de"),
        ("e" * 41, "REDACTED"),
        ("e" * 41 + "=1", "e" * 41 + "=REDACTED"),
        ("&&=&", "&&=&"),
        ("=x", "=x"),
        ("", ""),
    ],
)  # fmt: skip
def test_redact(query: str, expected: str) -> None:
    assert redacted(query) == [expected]
    assert redacted("z=1", query, "", query, "token=1") == ["z=1", expected, "", expected, "token=REDACTED"]


def test_what_another_query_ends_with_says_nothing() -> None:
    assert redacted("a;", "0", "", "b;c") == ["a;", "0", "", "b;REDACTED"]


def test_keys_beyond_what_is_remembered_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "MAX_KEYS", 2)
    redactor = Redactor()
    out = redactor.redact(texts(["a=1&b=2&c=3", "d=4"]))
    kept = [text for row in range(2) for text in out.text(row).decode().split("&")]
    assert sum("REDACTED" in text for text in kept) == 2
    again: Texts = redactor.redact(texts(["a=1&b=2&c=3", "d=4"]))
    assert np.array_equal(again.data, out.data)
