"""The engine: what evaluation, rejection sampling, guard, chat and server call to make a model speak or score.

Public modules: ``engine`` (load a model, ``generate``, ``score``, and ``submit``/``step``/``cancel`` for a server),
``sampling`` (what a request may ask of chance), ``grammar`` (output that must fit a JSON schema, a regular expression
or a list), ``request`` (requests, completions, events) and ``service`` (the engine behind an asyncio queue).

Inside: ``pages`` counts pages of the key-value cache, ``cache`` holds and reads them, ``slots`` keeps what runs in
arrays, ``scheduler`` decides who runs, ``text`` turns ids into text while they come.
"""
