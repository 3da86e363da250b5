"""Dubbing: one video (or picture) and one speech in, one dubbed video out; and long lists of that."""
