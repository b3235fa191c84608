"""The strategy `block_topk`, against a plain loop."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dmask
from tests.support.generate import Call, calls
from tests.support.oracle import (
    oracle_block_topk,
)
from tests.support.rows import check_rows, finite

windows = st.sampled_from([None, 1, 3, 8])


many = settings(max_examples=300, suppress_health_check=list(HealthCheck))


@many
@given(calls(), st.sampled_from([1, 2, 5]), st.sampled_from(["max", "mean"]))
def test_block_topk_keeps_whole_blocks(call: Call, key_block: int, pool: str) -> None:
    call = finite(call)
    if pool == "mean":  # sums of quarters are exact in any order
        call = Call(
            (call.bias * 4).round() / 4,
            call.mask,
            call.sizes,
            call.window_size,
            call.min_dtype,
            call.heads,
        )
    got = dmask.create_mask(
        call.bias,
        call.mask,
        *call.sizes,
        call.window_size,
        call.min_dtype,
        type="block_topk",
        options={"key_block": key_block, "pool": pool},
    )
    _, queries, keys = call.sizes  # a row per query, each with the block at its position
    check_rows(
        call,
        got,
        lambda q, row: oracle_block_topk(
            row, q + keys - queries, call.window_size, key_block, pool
        ),
        queries,
    )
