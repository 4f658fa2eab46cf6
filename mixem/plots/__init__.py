"""The book's figures: functions of arrays and records that return a matplotlib Figure."""

from mixem.plots.clustering import (
    confusion_table,
    contingency_tables,
    curves,
    histograms,
    information_bars,
    score_bars,
    solutions,
    starts_scatter,
)
from mixem.plots.diagrams import iic_diagram, imc_swav_diagram, mixem_diagram
from mixem.plots.images import picture_grid, pictures_by_group
from mixem.plots.style import Figure

__all__ = [
    "Figure",
    "confusion_table",
    "contingency_tables",
    "curves",
    "histograms",
    "iic_diagram",
    "imc_swav_diagram",
    "information_bars",
    "mixem_diagram",
    "picture_grid",
    "pictures_by_group",
    "score_bars",
    "solutions",
    "starts_scatter",
]
