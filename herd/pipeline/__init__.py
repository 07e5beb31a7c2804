"""The recipe and the road: which stages there are, what each needs, what is finished and what must run again.

``recipe`` is the typed file that a user writes, ``stages`` turns it into a graph, ``graph`` runs a graph with
resume and manifests, ``lock`` keeps a second writer out, ``lineage`` walks the manifests back to the sources.
Run it with ``herd run RECIPE``.
"""
