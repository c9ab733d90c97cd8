"""What the package offers."""

import openrouter_sim


def test_it_offers_what_it_names() -> None:
    for name in openrouter_sim.__all__:
        assert getattr(openrouter_sim, name)
