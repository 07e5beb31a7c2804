"""The network of the Llama 3 family, and nothing else: no masks' bookkeeping, no caches, no training.

- ``config``: the shape of a model, the published presets and the pocket sizes, exact counts of parameters and FLOPs.
- ``rotary``, ``layers``, ``transformer``: the architecture (paper, section 3.2), on one flat axis of tokens.
- ``attention``: what a token of packed documents may see.
- ``loss``: cross-entropy and log-probabilities in bounded memory.

Shapes are written into names: ``q_NHD`` has the axes N, H and D.

=====  =====================================================================
N      tokens: the documents of a batch, one after another, on one flat axis
M      the tokens that are asked for logits or carry a target (M <= N)
E      model dimension
F      feed-forward dimension
H      query heads
K      key and value heads (H is a multiple of K)
D      dimension of a head
R      half of D: the pairs that the rotary embedding turns
V      vocabulary
B, L   documents in a group and their (padded) length
=====  =====================================================================
"""
