"""Tools that a model may call: search over the corpus, a Python interpreter without a way out, functions of your own.

Public: ``search`` (the index and its stage), ``sandbox`` (the interpreter), ``registry`` (what a tool is, and the two
built-in ones), ``agent`` (the loop that lets many dialogues call tools together).  Only ``agent`` touches the engine,
and importing this package loads neither torch nor the index.  Paper section 4.3.5.
"""
