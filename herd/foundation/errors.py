"""The one exception that is a user's business.

A ``HerdError`` carries one clear sentence that names the place (a file, a line, a key, a tensor).  The command
line prints it without a traceback and exits with status 2; anything else that escapes is a defect of Herd.
"""


class HerdError(Exception):
    """A mistake that the user can mend; its message is one sentence that says where and what."""
