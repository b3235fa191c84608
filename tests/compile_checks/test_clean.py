"""No false alarms: code that compiles into one graph has a clean report in every mode."""

from __future__ import annotations

import os

import pytest

from compile_checks import Case, Mode, audit_modes
from compile_checks._engine.case import ALL_MODES
from tests.compile_checks.samples.clean import SAMPLES

INDUCTOR = [mode for mode in ALL_MODES if mode.backend == "inductor"]
# Inductor takes seconds per mode. By default each sample runs in one of its modes, and all samples
# together run in all of them.
EVERY_MODE = "AUDIT_EVERY_MODE" in os.environ


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", SAMPLES)
def test_clean_code_is_clean_in_every_mode(name: str, backend: str) -> None:
    fn, args, kwargs = SAMPLES[name]()

    modes = [mode for mode in ALL_MODES if mode.backend == backend]
    reports = audit_modes(Case(name, fn, [(args, kwargs)]), modes)

    assert len(reports) == 12
    for mode, report in reports.items():
        assert report.ok, f"{mode}: {report}"
        assert report.graphs == 1, mode
        assert report.notes == (), mode  # eager and compiled results were compared


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode)
        for number, name in enumerate(SAMPLES)
        for index, mode in enumerate(INDUCTOR)
        if EVERY_MODE or index == number % len(INDUCTOR)
    ],
    ids=str,
)
def test_clean_code_is_clean_with_inductor(name: str, mode: Mode) -> None:
    fn, args, kwargs = SAMPLES[name]()

    (report,) = audit_modes(Case(name, fn, [(args, kwargs)]), [mode]).values()

    assert report.ok, f"{mode}: {report}"
    assert report.graphs == 1
    assert report.notes == ()


def test_the_samples_cover_every_inductor_mode() -> None:
    assert len(SAMPLES) >= max(15, len(INDUCTOR))
