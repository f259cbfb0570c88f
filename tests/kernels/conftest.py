"""What the tests of several kernels share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["fused", "tiled"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of kernels in turn; the tiled ones with blocks smaller than the matrices."""
    pytest.importorskip("triton")
    from softperm.kernels.gpu import fused, tiled

    if request.param == "tiled":
        monkeypatch.setattr(fused, "_BYTES", 0)
        monkeypatch.setattr(tiled, "_ROW_BLOCKS", {"LINES": 16, "ALONG": 8})
        monkeypatch.setattr(tiled, "_COLUMN_BLOCKS", {"LINES": 8, "ALONG": 16})
        monkeypatch.setattr(tiled, "_TILES", {"LINES": 16, "ALONG": 8})
    return str(request.param)
