"""Scaling laws: which runs to make, what they say of the best size, and the loss to expect of a run not made yet.

``isoflop`` plans the runs, ``laws`` fits parabolas, the power law N*(C) and the parametric law L(N, D).  Nothing
here trains: the runs are composed in ``herd.pipeline``.  Paper: "The Llama 3 Herd of Models", section 3.2.1.
"""
