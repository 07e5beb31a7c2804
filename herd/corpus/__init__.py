"""From raw pages to documents: reading, extraction, cleaning, judging and mixing of text.  No torch here.

Public: ``pages`` (the artifact of raw pages), ``sources`` and ``collect`` (where pages come from), ``extract`` (main
text and metadata of a page), ``passages`` (what a search returns), ``curate`` (the stage that keeps, mixes, splits).
"""
