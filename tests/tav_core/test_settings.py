"""Settings that know their own range: what is refused, and in which words."""

import math

import pytest

from tav_core.diffusion.settings import Inversion, Sampling, Strengths
from tav_core.inflation.mode import InflationMode
from tav_core.settings import defaults_of, settings_of
from tav_core.tuning.settings import RunSettings, TuningSettings
from tav_core.video.settings import FrameSelection

OWNERS = (TuningSettings, RunSettings, InflationMode, Inversion, Sampling, Strengths, FrameSelection)
EVERY = [(owner, known) for owner in OWNERS for known in settings_of(owner).values()]
every_setting = pytest.mark.parametrize(
    ("owner", "known"), EVERY, ids=lambda value: getattr(value, "name", getattr(value, "__name__", None))
)


@every_setting
def test_a_setting_is_complete(owner, known):
    """ComfyUI and the command line make an input and an option from it."""
    assert known.help.endswith(".") and known.problem(known.default) is None
    if isinstance(known.default, int | float) and not isinstance(known.default, bool):
        assert known.minimum < known.maximum
        assert {type(limit) for limit in (known.minimum, known.maximum)} == {type(known.default)}
    assert isinstance(known.default, str | bool) or not known.choices


@every_setting
def test_what_is_out_of_range_is_refused_by_name(owner, known):
    if known.choices:
        wrong = ["sideways"]
    elif known.minimum is not None:
        wrong = [known.minimum - 1, known.maximum * 2 + 1, math.nan, -math.inf]
    else:
        return
    for value in wrong:
        with pytest.raises(ValueError, match=known.name):
            owner(**{known.name: value})


def test_the_sentences():
    with pytest.raises(ValueError, match=r"^steps must be a number from 1 to 1000, not 0$"):
        Sampling(steps=0)
    with pytest.raises(ValueError, match=r"^unknown norm 'both'; choose one of joint, per frame$"):
        InflationMode(norm="both")


def test_defaults_are_those_of_the_dataclass():
    for owner in OWNERS:
        assert owner(**defaults_of(owner)) == owner()
