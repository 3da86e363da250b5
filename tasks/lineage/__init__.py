"""Which footage went into which snapshot, model and dub: followed both ways over the small files that say so.

clip → source, speaker       the `clips` tables of a corpus store
snapshot → clips             <store>/snapshots/<name>.json
model → snapshot, models     the header of its weights file: the snapshot with store and checksum, and the weights that training began with
dub → models, video, speech  its row in <run>/results/, or the stamp in the video itself, by content (SHA-256)

Weights files are known by their content, so they may be copied and moved. A clip_id begins with the content of its source, so a dub's video
is known in a store under any name. Nothing here is written, and of a large file only the beginning is read, unless a version can be told
only by the whole of a weights file.
"""
