"""Fixtures for the tests of ops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dmask.contracts import dispatch
from dmask.contracts.spec import forget_plans
from dmask.kernels.cpu import parallel


@pytest.fixture(params=["fast way", "few scores", "reference"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Computes with the CPU kernel, in many small parts, with the operations for few scores, and
    with the reference, which serves all other devices and dtypes.
    """
    forget_plans()
    if request.param == "fast way":
        monkeypatch.setattr(dispatch, "FEW_SCORES", 0)
        monkeypatch.setattr(parallel, "PART_SCORES", 32)
    if request.param == "reference":
        monkeypatch.setattr(dispatch.Kernel, "choose", lambda kernel, *_: kernel.reference)
    yield
    forget_plans()
