"""What probes take is shared out by hits: nobody pays for others."""

from __future__ import annotations

import pytest

from autoinstr.attach.tally import Tally, price


def test_by_the_hits_of_each() -> None:
    told = Tally(
        seconds=2.0,
        # 1,000 calls of targets at 300 ns, and 9,000 of others at 20 ns, each with two probes
        probes={"sys_enter": (10_000, 480_000), "sys_exit": (10_000, 480_000), "tls_read": (100, 50_000)},
        hits={7: (750, 0), 8: (250, 40)},
        least=20.0,
    )
    found = price(told, way_and_back=1500.0)
    assert found.others == pytest.approx(18_000 * 20 / 2e9)
    assert found.targets[7] == pytest.approx(1500 * 300 / 2e9)
    assert found.targets[8] == pytest.approx((500 * 300 + 40 * 2000) / 2e9)
    assert found.watched == pytest.approx(sum(found.targets.values()))


def test_noise_never_makes_it_negative() -> None:
    told = Tally(1.0, {"sys_exit": (100, 100)}, {7: (10, 0)}, least=20.0)
    assert price(told, 0.0).targets[7] == pytest.approx(20 * 20 / 1e9)


def test_without_anything() -> None:
    found = price(Tally(1.0), 0.0)
    assert (found.targets, found.watched, found.others) == ({}, 0, 0.0)
