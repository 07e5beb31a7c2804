"""The exceptions that are a user's business.

A ``HerdError`` carries one clear sentence that names the place (a file, a line, a key, a tensor).  The command
line prints it without a traceback and exits with status 2.  ``Interrupted`` is work that ended early through nobody's
mistake; what it has done is kept.  Anything else that escapes is a defect of Herd.
"""


class HerdError(Exception):
    """A mistake that the user can mend; its message is one sentence that says where and what."""


class UnfinishedError(HerdError):
    """A trouble on the way; what was done so far is kept, and the same command goes on once it is mended."""


class ToldError(HerdError):
    """A mistake that another process of the same run tells already; this one ends in silence."""


class Interrupted(Exception):  # noqa: N818 - it is no error of the work that was interrupted
    """Work that was cut short from outside and goes on where it was with the same command.

    ``status`` is the process's exit status: 1, or 128 and a signal's number.
    """

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status
