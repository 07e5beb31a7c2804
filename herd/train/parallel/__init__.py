"""Training on many processes: the mesh, and what each of its dimensions does to model, batch, loss and gradients.

    torchrun --nproc-per-node 4 -m herd pretrain tokens tokenizer --shape 3m --tp 2 --dp 2 --set tokens=3000000

- ``mesh``: the degrees [TP, CP, PP, DP], what is refused, and which combinations are proven.

The loop stays the one in ``herd.train.loop``; the network stays the one in ``herd.model``.
"""
