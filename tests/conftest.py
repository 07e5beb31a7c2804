"""What holds for the tests of all rooms: how long a slow one may take."""

import pytest

PATIENCE = 3600.0  # seconds; a core may be shared, and its speed is no part of what is proven


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives slow tests that name no limit of their own a generous one; the others have that of ``pyproject.toml``."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PATIENCE))
