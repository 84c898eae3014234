"""The version of what the engine computes: part of every key under which its numbers are kept."""

from typing import Final

ENGINE_VERSION: Final = 1
"""To be raised by whoever changes a number that the engine gives for the same input, were it the last bit."""
