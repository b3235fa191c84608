"""The CPU's two ways to a top-k mask, as a parameter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dmask.contracts import dispatch
from dmask.contracts.spec import forget_plans
from dmask.kernels.cpu import parallel


@pytest.fixture(params=["fast way", "few scores"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU's way of large masks, cut up even where there is little, and that of small ones."""
    forget_plans()
    if request.param == "fast way":
        monkeypatch.setattr(dispatch, "FEW_SCORES", 0)
        monkeypatch.setattr(parallel, "PART_SCORES", 32)
    yield
    forget_plans()
