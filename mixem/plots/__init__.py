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
from mixem.plots.contrast import partner_picture, partner_probabilities, temperature_weights
from mixem.plots.diagrams import iic_diagram, imc_swav_diagram, mixem_diagram
from mixem.plots.embedding import cosine_histograms, embedding_map, nearest, neighbours, project
from mixem.plots.iic import (
    accuracy_along,
    circle_order,
    corners,
    head_losses,
    learning_curves,
    loss_against_accuracy,
    probability_bars,
    simplex_snapshots,
    sub_head_strips,
    sub_heads_of,
)
from mixem.plots.images import picture_grid, pictures_by_group
from mixem.plots.information import (
    joint_tables,
    loss_landscape,
    outer_products,
    pair_network,
    sub_head_choice,
)
from mixem.plots.mixture import (
    coefficient_batches,
    diversity_curve,
    mixing,
    pull_and_push,
    ranked_images,
    simplex_losses,
    starts_spread,
)
from mixem.plots.networks import mixem_network, simclr_network
from mixem.plots.prototypes import (
    circle_snapshots,
    equipartition_error,
    plan_tables,
    prototype_circle,
    swap_diagram,
    swapped_terms,
)
from mixem.plots.style import Figure
from mixem.plots.training import contrast_bounds, term_bounds, terms_over_epochs, usage_over_epochs
from mixem.plots.views import operations_apart, view_draws, view_pairs

__all__ = [
    "Figure",
    "accuracy_along",
    "circle_order",
    "circle_snapshots",
    "coefficient_batches",
    "confusion_table",
    "contingency_tables",
    "contrast_bounds",
    "corners",
    "cosine_histograms",
    "curves",
    "diversity_curve",
    "embedding_map",
    "equipartition_error",
    "head_losses",
    "histograms",
    "iic_diagram",
    "imc_swav_diagram",
    "information_bars",
    "joint_tables",
    "learning_curves",
    "loss_against_accuracy",
    "loss_landscape",
    "mixem_diagram",
    "mixem_network",
    "mixing",
    "nearest",
    "neighbours",
    "operations_apart",
    "outer_products",
    "pair_network",
    "partner_picture",
    "partner_probabilities",
    "picture_grid",
    "pictures_by_group",
    "plan_tables",
    "probability_bars",
    "project",
    "prototype_circle",
    "pull_and_push",
    "ranked_images",
    "score_bars",
    "simclr_network",
    "simplex_losses",
    "simplex_snapshots",
    "solutions",
    "starts_scatter",
    "starts_spread",
    "sub_head_choice",
    "sub_head_strips",
    "sub_heads_of",
    "swap_diagram",
    "swapped_terms",
    "temperature_weights",
    "term_bounds",
    "terms_over_epochs",
    "usage_over_epochs",
    "view_draws",
    "view_pairs",
]
