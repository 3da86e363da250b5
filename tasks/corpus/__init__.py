"""The corpus store: footage in, clips with landmarks, crops and sound out; and how it is read, checked and frozen."""
