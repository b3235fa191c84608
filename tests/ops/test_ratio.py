"""The strategy `ratio`, against a plain loop."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dmask
from tests.support.generate import Call, calls
from tests.support.oracle import (
    oracle_ratio,
)
from tests.support.rows import check_rows, finite

windows = st.sampled_from([None, 1, 3, 8])


many = settings(max_examples=300, suppress_health_check=list(HealthCheck))


@many
@given(calls(), windows, st.sampled_from([1, 7, 10, 30, 50, 70, 100]))
def test_ratio_keeps_a_share_of_the_eligible_keys(
    call: Call, window_size: int | None, percent: int
) -> None:
    call = finite(call)
    got = dmask.create_mask(
        call.bias,
        call.mask,
        *call.sizes,
        window_size,
        call.min_dtype,
        type="ratio",
        options={"ratio": percent / 100},
    )
    check_rows(call, got, lambda _, row: oracle_ratio(row, window_size, percent))
