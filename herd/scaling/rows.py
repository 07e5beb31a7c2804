"""Rows of a table that a user brings as a CSV file, each with its line, for ``table`` and ``downstream``."""

import csv
from collections.abc import Sequence
from pathlib import Path

from herd.foundation.errors import HerdError


def read_rows(path: Path, needed: Sequence[str], wanted: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of every row; a field that a row lacks is empty.

    Raises:
        HerdError: no such file, no CSV in UTF-8, without one of the ``needed`` columns or of those ``wanted`` besides,
            or a row with more fields than there are columns.
    """
    found = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            rows = csv.DictReader(file, restval="")
            for name in (*needed, *wanted):
                if name not in (rows.fieldnames or ()):
                    raise HerdError(f"{path}: the column {name} is missing; needed are {', '.join(needed)}")
            for row in rows:
                if None in row:
                    raise HerdError(f"{path}, line {rows.line_num}: more fields than columns")
                found.append((rows.line_num, row))
    except FileNotFoundError:
        raise HerdError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HerdError(f"{path}: not readable ({error})") from None
    return found
