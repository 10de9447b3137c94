"""The demo's profile: every line names a setting that exists, and really changes it."""

import pytest

from examples.movielens import profile
from services.ingest.settings import Settings as IngestSettings
from services.learner.settings import Settings as LearnerSettings
from services.serving.settings import Settings as ServingSettings

CLASSES = (IngestSettings, LearnerSettings, ServingSettings)


@pytest.mark.parametrize("deviation", profile.PROFILE, ids=lambda deviation: deviation.variable)
def test_each_line_changes_a_setting_that_exists(deviation: profile.Deviation, monkeypatch: pytest.MonkeyPatch) -> None:
    name = deviation.variable.removeprefix("MOARD_").lower()
    (cls, *_) = [cls for cls in CLASSES if name in cls.model_fields]
    monkeypatch.setenv(deviation.variable, deviation.value)

    assert getattr(cls(_env_file=None), name) != profile.default_of(deviation.variable, *CLASSES)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(LookupError, match="MOARD_NONSENSE"):
        profile.default_of("MOARD_NONSENSE", *CLASSES)
