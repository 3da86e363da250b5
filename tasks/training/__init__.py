"""Training of both networks on a corpus snapshot, in one process or as one of several workers. Imports torch, NumPy, OpenCV and storage only."""
