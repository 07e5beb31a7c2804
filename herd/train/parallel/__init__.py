"""Training on many processes: the mesh, and what each of its dimensions does to model, batch, loss and gradients.

    torchrun --nproc-per-node 4 -m herd pretrain tokens tokenizer --shape 3m --tp 2 --dp 2 --set tokens=3000000

- ``mesh``: the degrees [TP, CP, PP, DP], what is refused, and which combinations are proven (``docs/parallel.md``).
- ``data``, ``tensor``, ``context``, ``pipeline``: what each dimension does to the network; ``loss``: a cut vocabulary.
- ``processes``: all of it together as the one object that the loop asks; ``order``: a pipeline's order of work.
- ``launch``, ``watch``: the processes that torchrun started, and who is lost among them; ``slices``: checkpoints.
- ``dry_run``: one process's view of a run on accelerators that are not there.

The loop stays the one in ``herd.train.loop``; the network stays the one in ``herd.model``.
"""
