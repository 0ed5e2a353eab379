"""What single requests bring: which URL a call is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from batches import make_group

from autoinstr.model import Attributes, Group, Kind
from autoinstr.spans.attributes import url_before_path


def client(**attributes: str | int) -> Group:
    named: Attributes = {name.replace("_", "."): value for name, value in attributes.items()}
    return replace(make_group(kind=Kind.CLIENT), span_attributes=named)


@pytest.mark.parametrize(
    ("group", "url"),
    [
        (client(url_scheme="https", server_address="shop", server_port=8443), "https://shop:8443"),
        (client(url_scheme="https", server_address="shop", server_port=443), "https://shop"),
        (client(url_scheme="http", server_address="shop", server_port=80), "http://shop"),
        (client(url_scheme="http", server_address="shop", server_port=443), "http://shop:443"),
        (client(url_scheme="http", server_address="::1", server_port=8080), "http://[::1]:8080"),
        (client(url_scheme="http", server_address="shop"), "http://shop"),
        (client(url_scheme="http", server_port=80), ""),
        (make_group(kind=Kind.SERVER), ""),
        (make_group(kind=Kind.CLIENT, text_key=""), ""),
    ],
)
def test_url_before_path(group: Group, url: str) -> None:
    assert url_before_path(group) == url
