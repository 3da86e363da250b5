"""Footage that dubmill makes for itself: two public-domain portraits that speak sentences of espeak-ng."""

from tasks.sample.footage import SampleFootage, make_sample_footage
from tasks.sample.speech import Voice, make_sample_speech

__all__ = ["SampleFootage", "Voice", "make_sample_footage", "make_sample_speech"]
