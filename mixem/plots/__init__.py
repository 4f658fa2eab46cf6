"""The book's figures: functions of arrays and records that return a matplotlib Figure."""

from mixem.plots.style import Figure

__all__ = ["Figure"]
