"""Scores with evidence: every figure with its 95% interval, its n, its prompts' version and its per-item outputs.

Public: ``stage.evaluate`` (all models on all measures), ``statistics`` and ``bradley_terry`` (intervals, ratings),
``perplexity``, ``needle`` (also the gate of long context), ``suite`` (tools, refusals, injections), ``safety`` (the
guard), ``arena``, ``contamination``, ``results`` (the figures' file).  What counts as right is in docs/evaluation.md.
"""
