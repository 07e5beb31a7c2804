"""The run as one HTML page that needs no network: what went in, what was learnt, how it was measured, what it cost.

``page`` writes it, ``figures`` draws, ``tables`` formats, ``run_files`` reads artifacts.  Nothing here imports another
room: the report shows what lies on the disk and could be written on another machine.  ``herd report RUN``.
"""
