"""Training: token shards and streams, and the one loop that every stage trains with.

- ``loop``: ``train``, the only loop; ``batch`` is its seam (batches in, losses out).
- ``schedule``, ``average``, ``checkpoint``, ``metrics``, ``compiled``, ``precision``: what the loop is made of.
- ``shards``, ``stream``: tokens on disk, and which of them a sample holds.
"""
