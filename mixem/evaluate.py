"""What a trained method is worth, under each protocol. Labels are used here and nowhere before."""

from dataclasses import asdict, replace
from typing import Any

import torch

from mixem.data import ImageSet
from mixem.errors import InputError
from mixem.evaluation import (
    KMeansProtocol,
    KMeansResult,
    assign_to_centres,
    cluster_usage,
    clustering_scores,
    kmeans,
)
from mixem.methods import Method, MixEM, extract


def evaluate(
    method: Method,
    images: ImageSet,
    *,
    clusters: int,
    protocol: KMeansProtocol,
    fit_images: ImageSet | None = None,
) -> dict[str, Any]:
    """Cluster and score images; keep the centres of the main protocol in the method.

    Args:
        method: Trained.
        images: To be scored; without labels the scores are None and the rest still stands.
        clusters: Number k of clusters.
        protocol: The k-means of the main number.
        fit_images: What k-means is fitted on; by default the images that are scored.

    Returns:
        ``metrics``: accuracy, nmi and ari of the main protocol as fractions. ``usage``: clusters
        used and the entropy of their sizes in nats. ``protocols``: the same scores for features
        and embeddings, raw and normalised, from each start, and for MIX'EM the components taken
        as clusters, each row with its switches.

    Raises:
        InputError: If k-means shall start from components and the method has none, or if there
            are fewer images than clusters.
    """
    if protocol.init == "components" and not isinstance(method, MixEM):
        raise InputError(
            f"k-means init is 'components' and {type(method).__name__} has none; give 'k-means++'"
        )
    found = _outputs(method, images)
    fitted = found if fit_images is None else _outputs(method, fit_images)

    def fit(switches: KMeansProtocol) -> KMeansResult:
        components = fitted["components"] if switches.init == "components" else None
        return kmeans(fitted[switches.layer], clusters, components=components, protocol=switches)

    def assign(result: KMeansResult, switches: KMeansProtocol) -> Any:
        if fit_images is None:
            return result.clusters
        x = found[switches.layer]
        return assign_to_centres(
            x, result.centres, normalise=switches.normalise, variance=result.variance
        )[0]

    def score(assigned: Any) -> dict[str, float] | None:
        return None if images.labels is None else clustering_scores(images.labels, assigned)

    results = {switches: fit(switches) for switches in _variants(protocol, "components" in found)}
    rows = [
        {"kind": "k-means", **asdict(switches), "scores": score(assign(result, switches))}
        for switches, result in results.items()
    ]
    if "components" in found:
        rows.append({"kind": "argmax p", "scores": score(found["components"])})

    main = assign(results[protocol], protocol)
    kept = results[replace(protocol, layer="features", normalise=True)]
    method.keep_centres(torch.from_numpy(kept.centres).float(), kept.variance)
    return {
        "metrics": score(main),
        "usage": cluster_usage(main, clusters)._asdict(),
        "protocols": rows,
    }


def _outputs(method: Method, images: ImageSet) -> dict[str, torch.Tensor]:
    found = {what: extract(method, images.images, what) for what in ("features", "embeddings")}
    if isinstance(method, MixEM):
        found["components"] = extract(method, images.images, "assign").argmax(1)
    return found


def _variants(protocol: KMeansProtocol, has_components: bool) -> list[KMeansProtocol]:
    """The main protocol first, then every other setting of the switches the papers leave open."""
    variants = [
        replace(protocol, layer=layer, normalise=normalise, init=init)
        for layer in ("features", "embeddings")
        for normalise in (True, False)
        for init in (("components", "k-means++") if has_components else ("k-means++",))
    ]
    return sorted(variants, key=lambda variant: variant != protocol)
