"""The kernels for CUDA tensors on devices where Triton cannot run."""

from __future__ import annotations

import logging
import pkgutil
from importlib import import_module

import pytest
import torch

from dmask import contracts
from dmask.contracts import dispatch, topk
from dmask.kernels.reference import topk as reference

CUDA = torch.device("cuda", 0)
KERNELS = {
    f"{kernel._file}.{kernel._function}": kernel
    for module in pkgutil.iter_modules(contracts.__path__, f"{contracts.__name__}.")
    for kernel in vars(import_module(module.name)).values()
    if isinstance(kernel, dispatch.Kernel) and dispatch.TRITON in kernel._backends
}


@pytest.fixture(autouse=True)
def _forget() -> None:
    dispatch._why_no_triton.cache_clear()


def test_an_unusable_device_gets_the_reference(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with caplog.at_level(logging.DEBUG, "dmask"):
        for _ in range(3):
            assert topk.KERNEL.choose(CUDA, torch.float32) is reference.topk_mask
    assert len(caplog.records) == 1


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    from dmask.kernels.triton.topk import topk_mask

    assert topk.KERNEL.choose(CUDA, torch.float32) is topk_mask
    assert topk.KERNEL.choose(CUDA, torch.float64) is reference.topk_mask
    monkeypatch.setenv(dispatch.TRITON_SWITCH, "0")
    assert topk.KERNEL.choose(CUDA, torch.float32) is reference.topk_mask


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_on_cuda(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    kernel = KERNELS[name]
    chosen = kernel.choose(CUDA, None)
    assert chosen.__module__ == kernel.reference.__module__.replace("reference", "triton")
    assert chosen.__name__ == kernel.reference.__name__


def test_a_kernel_that_fails_says_how_to_do_without() -> None:
    pytest.importorskip("triton")
    from dmask.kernels.triton.launches import Launch

    launch = Launch("topk_mask", (1, 2), {}, (1,), ())  # no kernel for any grid
    with pytest.raises(RuntimeError, match=r"topk_mask .* \(1, 2\): .*DMASK_TRITON=0"):
        launch(torch.empty(2))
