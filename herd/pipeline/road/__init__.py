"""The stages of the road, chapter by chapter; each module turns a part of the recipe into nodes of the graph.

``data`` (pages to token shards, tasks and the search index), ``scaling``, ``pretraining`` (with the gates of long
context), ``judging`` (guard, evaluation).  ``herd.pipeline.stages`` joins them with the steps of ``herd.align.rounds``.
"""
