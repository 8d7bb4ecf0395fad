"""Profiles by name."""

import pytest

from dfm.codec import profiles
from dfm.errors import UserError


def test_a_profile_without_a_number_is_refused_before_any_fit(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "raw", profiles.PROFILES["weights"])
    with pytest.raises(UserError, match="the profile raw has no number in dfm.codec.profiles.PROFILE_NUMBERS"):
        profiles.make_profile("raw", {})


def test_every_profile_has_a_number_of_its_own():
    assert set(profiles.PROFILES) <= set(profiles.PROFILE_NUMBERS)
    assert len(set(profiles.PROFILE_NUMBERS.values())) == len(profiles.PROFILE_NUMBERS)
    assert profiles.PROFILE_NUMBERS["weights"] == 0
