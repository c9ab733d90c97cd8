"""`python -m openrouter_sim` with options that cannot be."""

import sys
from pathlib import Path

import pytest

from openrouter_sim.__main__ import main


def test_a_scenario_that_is_missing_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["openrouter_sim", "--scenario", str(tmp_path / "none.toml")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "none.toml" in capsys.readouterr().err
