"""The strategy `topp`, against a plain loop."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dmask
from tests.support.generate import Call, calls
from tests.support.oracle import (
    oracle_topp,
)
from tests.support.rows import check_rows, eligible_scores, finite

windows = st.sampled_from([None, 1, 3, 8])


many = settings(max_examples=300, suppress_health_check=list(HealthCheck))


@many
@given(calls(), windows, st.sampled_from([0.1, 0.5, 0.87, 1.0]))
def test_topp_keeps_the_fewest_keys_that_reach_the_mass(
    call: Call, window_size: int | None, p: float
) -> None:
    call = finite(call)
    got = dmask.create_mask(
        call.bias,
        call.mask,
        *call.sizes,
        window_size,
        call.min_dtype,
        type="topp",
        options={"p": p},
    )
    rows = eligible_scores(call)
    if p == 1.0 and window_size is None:
        assert torch.equal(got, ~rows.isnan())
    elif p < 1.0:
        check_rows(call, got, lambda _, row: oracle_topp(row, window_size, p))
