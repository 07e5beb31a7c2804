"""How people and programs reach a model: the OpenAI-compatible API, the chat page and the terminal.

``assistant`` runs a turn with its tools and its guard, ``gate`` holds streamed text back until it is judged,
``household`` finds what belongs to a model, ``protocol`` is OpenAI's shapes, ``app`` the HTTP server, ``terminal`` the
conversation in a terminal.  Run it with ``herd serve`` and ``herd chat``.
"""
