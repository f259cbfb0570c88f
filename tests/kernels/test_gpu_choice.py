"""Which devices are sent to the Triton kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from softperm import sinkhorn
from softperm.kernels import cpu, dispatch, reference

pytest.importorskip("triton")

from triton.backends import backends

from softperm.kernels import gpu


class TestChoice:
    GPU: Any = SimpleNamespace(is_cuda=True, is_cpu=False, device=torch.device("cuda", 0))
    CPU: Any = SimpleNamespace(is_cuda=False, is_cpu=True)

    def device(self, monkeypatch: pytest.MonkeyPatch, hip: str | None, found: Any) -> None:
        """Pretend to find such a GPU: a compute capability, or the architecture of ROCm."""
        monkeypatch.setattr(torch.version, "hip", hip)
        name = "get_device_properties" if hip else "get_device_capability"
        answer = SimpleNamespace(gcnArchName=found) if hip else found
        monkeypatch.setattr(torch.cuda, name, lambda device: answer)

    @pytest.mark.parametrize(
        ("hip", "found"), [(None, (7, 0)), (None, (9, 0)), ("6.4", "gfx90a:sramecc+:xnack-")]
    )
    def test_a_gpu_gets_triton(
        self, monkeypatch: pytest.MonkeyPatch, hip: str | None, found: Any
    ) -> None:
        self.device(monkeypatch, hip, found)
        assert dispatch._kernel(self.GPU, "auto") is gpu
        assert dispatch._kernel(self.GPU, "torch") is reference

    @pytest.mark.parametrize(
        ("hip", "found"),
        [(None, (6, 1)), (None, (5, 2)), ("6.4", "gfx906:sramecc+:xnack-"), ("6.4", "gfx90c")],
    )
    def test_not_one_that_triton_does_not_know(
        self, monkeypatch: pytest.MonkeyPatch, hip: str | None, found: Any
    ) -> None:
        self.device(monkeypatch, hip, found)
        assert dispatch._kernel(self.GPU, "auto") is reference
        assert dispatch._kernel(self.GPU, "triton") is gpu

    @pytest.mark.parametrize(("hip", "found"), [(None, (9, 0)), ("6.4", "gfx1100")])
    def test_nor_without_its_compiler(
        self, monkeypatch: pytest.MonkeyPatch, hip: str | None, found: Any
    ) -> None:
        self.device(monkeypatch, hip, found)
        assert gpu.supports(self.GPU.device)
        monkeypatch.delitem(backends, "amd" if hip else "nvidia")
        assert not gpu.supports(self.GPU.device)

    @pytest.mark.parametrize("available", [True, False])
    def test_a_cpu(self, monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
        monkeypatch.setattr(cpu, "is_available", lambda: available)
        assert dispatch._kernel(self.CPU, "auto") is (cpu if available else reference)
        assert dispatch._kernel(self.CPU, "triton") is gpu

    def test_plain_pytorch_where_triton_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dispatch, "HAS_TRITON", False)
        assert dispatch._kernel(self.GPU, "auto") is reference
        with pytest.raises(ValueError, match="needs the package triton, which is not installed"):
            sinkhorn(torch.zeros(2, 2), backend="triton")

    def test_a_cpu_is_refused_without_the_interpreter(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu, "is_interpreted", lambda: False)
        with pytest.raises(ValueError, match="triton computes on a GPU, got log_alpha on cpu"):
            sinkhorn(torch.zeros(2, 2), backend="triton")
