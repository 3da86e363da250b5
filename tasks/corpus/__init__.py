"""The corpus store: footage in, clips with landmarks, crops and sound out; and how it is read, checked and frozen.

The resume contract: what `dubmill ingest` promises when it is run again, after whatever happened to the run before.

What may change between runs
    Sources: files may be added, changed, moved and removed, and other places given that hold the same files. A source is its real
        path or URI with its size and its ETag or modification time; one that a finished batch has is not read again.
    Workers and sizes of batches (`workers`, `batch_sources`, `batch_mb`): a batch that is planned keeps its sources; what is new is
        grouped as the settings say now.
    How a source is cut (`detector`, `mesh`, `speaker`, `scene_threshold`, …): for new batches. A finished batch is not cut again, and
        an unfinished one is finished as its plan says.
    The speakers file and the lists of a layout: for new sources. A finished batch keeps its speakers and splits; an unfinished plan
        that has others is left, and its sources are planned anew.
    `clip_time_limit_s`: what an earlier limit turned away is tried again under the one of now.
    Selection (`corpus snapshot`): applied when a snapshot is made, never here.

What may not
    The format (`crop`, `picture`, `segment_s`) and the version of the tables: another one is an error that says what differs.
    A finished batch: its rows and pictures never change, whoever comes later with whatever outcome.
    A batch's name: a hash of all that its rows follow from, which are its sources with their speakers and splits, the format, the way of
        cutting, the tables' version and the attempt. The same plan gives the same rows and pictures on any worker.

What happens when
    a worker is killed: its batch is begun again. A source that kills a second worker is turned away, and the rest of the batch goes on.
    the driver is killed: what is finished stays, half a batch is none, and the next run takes up the plans that are left, as they are.
        When it is through, the store holds what an undisturbed run would have made.
    a source was turned away for a reason that may go away: each run tries it again, in a batch of its own, which is written only if the
        outcome is another; the rejects of the earlier try then count no more.
    two runs overlap: the second takes up the first one's unfinished batches, beginning elsewhere. Of two that make the same batch the
        first to finish it counts, and the other's is dropped. Two that plan at the very same moment, from different listings or for
        different numbers of workers, may cut a source twice, and so may a second one that was given only some of the sources of an
        unfinished batch, or finds one of them changed: readers take each clip once, from the batch of the lowest name.
    a file changes: it is a new source, and what was cut of its earlier content stays. A plan that is unfinished and names the earlier
        one is left; its other sources are planned anew.
    a file is renamed or moved: it is a new source of the same content; its clips have the same names and count once.
    a file is gone: its clips stay.
    a person is forgotten: neither the sources nor the contents that were theirs come back, not even by an unfinished plan.
    the index of known sources (`known/`) is deleted or damaged: the next run reads plans and rejects instead, and makes it again.
"""
