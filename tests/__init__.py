"""The tests mirror the packages; what they share is in `tests.support`."""

import pytest

# Its asserts explain themselves as those of the tests do.
pytest.register_assert_rewrite("tests.support")
