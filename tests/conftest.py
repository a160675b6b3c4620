"""Hypothesis without a time limit for an example: on a busy machine that is no property."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
