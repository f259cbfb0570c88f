"""The sorting table reaches what is claimed for it, at its largest size of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from softperm.program.cli import main
from softperm.program.reproduce.runner import read_results


@pytest.mark.slow
def test_both_nets_sort_120_numbers(tmp_path: Path) -> None:
    out = str(tmp_path)
    assert main(["reproduce", "sorting", "--n", "120", "--out", out, "--device", "cpu"]) == 0
    paper, ours = read_results(tmp_path)
    assert paper.metrics["U(0, 1)"]["prop_any_wrong"] <= 0.01
    assert len(ours.metrics) == 7
    assert all(metrics["prop_any_wrong"] == 0 for metrics in ours.metrics.values())
