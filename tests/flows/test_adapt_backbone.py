"""The flow is thin: what it is asked for reaches the adaptation, and refusals come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelclean.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_refusal_comes_back_from_the_flow(tmp_path: Path) -> None:
    from labelclean.flows.adapt_backbone import adapt_backbone

    with pytest.raises(ConfigError, match="--resume needs an unfinished adaptation"):
        adapt_backbone.fn(str(ROOT / "config.yaml"), [f"adapt.out={tmp_path / 'out'}"], resume=True)
