"""The module of old helpers."""

from agent_preflight import artifacts, utils


def test_it_gives_the_helpers_of_the_artifacts_module() -> None:
    assert utils.render_prompt is artifacts.render_prompt
    assert utils.summarize_run is artifacts.summarize_run
