"""What a trained method is worth, under each protocol. Labels are used here and nowhere before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from mixem.data import ImageSet
from mixem.errors import InputError
from mixem.evaluation import (
    KMeansProtocol,
    KMeansResult,
    accuracy_by_labels,
    assign_to_centres,
    cluster_usage,
    clustering_scores,
    kmeans,
)
from mixem.methods import IIC, Finetune, IMCSwAV, Method, MixEM, extract

METRICS = ("accuracy", "nmi", "ari")


def evaluate(
    method: Method,
    images: ImageSet,
    *,
    clusters: int,
    protocol: KMeansProtocol,
    mapping: str = "one-to-one",
    fit_images: ImageSet | None = None,
    main_only: bool = False,
) -> dict[str, Any]:
    """Cluster and score images; keep the centres of the main protocol in the method.

    A method with clusters of its own, IIC or IMC-SwAV, is scored by them;
    a finetuned classifier by its classes, without any matching.

    Args:
        method: Trained.
        images: To be scored; without labels the scores are None and the rest still stands.
        clusters: Number k of clusters.
        protocol: The k-means of the main number.
        mapping: Of a method with clusters of its own: "one-to-one", matched on the images that
            are scored, or "majority" of the labels of ``fit_images``.
        fit_images: What k-means is fitted on, or whose labels map clusters to classes; by default
            the images that are scored.
        main_only: Of k-means and IMC-SwAV find ``metrics`` and ``usage`` only, and keep no centres.

    Returns:
        ``metrics``: accuracy, nmi and ari of the main protocol as fractions. ``usage``: clusters
        used and the entropy of their sizes in nats. ``protocols``: the same scores for features
        and embeddings, raw and normalised, from each start, and for MIX'EM the components taken
        as clusters, each row with its switches. For IIC: each sub-head with its loss, the one
        chosen by loss ("argmax p"), the one that labels would choose, their mean; or, with
        "majority", the accuracy by the share of labels used. For IMC-SwAV: its clusters under three
        kinds of batch-norm statistics ("argmax p", ``batch_norm``, see :data:`BATCH_NORM`), and
        k-means on its features. With "one-to-one" also
        ``counts``: the images by class and cluster. For a classifier: "ten
        crops" and "centre crop".

    Raises:
        InputError: If k-means shall start from components and the method has none, or if there
            are fewer images than clusters.
    """
    if protocol.init == "components" and not isinstance(method, MixEM):
        raise InputError(
            f"k-means init is 'components' and {type(method).__name__} has none; give 'k-means++'"
        )
    if isinstance(method, IIC):
        return _sub_heads(method, images, clusters, mapping, fit_images or images)
    if isinstance(method, Finetune):
        return _classes(method, images)
    if isinstance(method, IMCSwAV):
        return _clusters(method, images, clusters, protocol, fit_images or images, main_only)
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

    if main_only:
        main = assign(fit(protocol), protocol)
        return {"metrics": score(main), "usage": cluster_usage(main, clusters)._asdict()}
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


LABEL_SHARES = (0.01, 0.02, 0.05, 0.1, 0.5, 1.0)  # of IIC's figure 6


def _sub_heads(
    method: IIC, images: ImageSet, clusters: int, mapping: str, fit_images: ImageSet
) -> dict[str, Any]:
    """The scores of IIC's sub-heads; see :func:`evaluate`."""
    found = extract(method, images.images, "sub_heads").argmax(2).T.numpy()
    chosen = int(method.chosen)
    usage = cluster_usage(found[chosen], clusters)._asdict()
    result: dict[str, Any] = {"metrics": None, "usage": usage}
    losses = [round(loss, 6) for loss in method.sub_head_losses.tolist()]
    labels, fit_labels = images.labels, fit_images.labels
    if labels is None or fit_labels is None:
        rows = [
            {"kind": "sub-head", "sub_head": i, "loss": loss, "scores": None}
            for i, loss in enumerate(losses)
        ]
        return result | {"protocols": rows}

    fitted = found
    if mapping == "majority":
        fitted = extract(method, fit_images.images, "sub_heads").argmax(2).T.numpy()

    def score(head: int, share: float = 1.0) -> dict[str, float]:
        scores = clustering_scores(labels, found[head])
        if mapping == "majority":
            mean, std = accuracy_by_labels(
                fit_labels, fitted[head], labels, found[head],
                count=clusters, share=share,
            )  # fmt: skip
            scores |= {"accuracy": mean, "accuracy_std": std}
        return scores

    every = [score(head) for head in range(len(found))]
    best = max(every, key=lambda scores: scores["accuracy"])
    means = {name: sum(scores[name] for scores in every) / len(every) for name in METRICS}
    rows = [{"kind": "argmax p", "mapping": mapping, "scores": every[chosen]}]
    if mapping == "one-to-one":
        result["counts"] = _counts(labels, torch.from_numpy(found[chosen]), clusters)
    else:
        rows += [
            {"kind": "share of labels", "share": share, "scores": score(chosen, share)}
            for share in LABEL_SHARES
        ]
    rows += [
        {"kind": "sub-head", "sub_head": i, "loss": loss, "scores": scores}
        for i, (loss, scores) in enumerate(zip(losses, every, strict=True))
    ]
    rows += [
        {"kind": "mean of sub-heads", "scores": means},
        {"kind": "sub-head chosen with labels", "scores": best},
    ]
    return result | {"metrics": every[chosen], "protocols": rows}


# Which images the batch-norm statistics are of. The first is the main one. The last is
# transductive, and what the official code of IMC-SwAV does before each evaluation (``utils.py``).
BATCH_NORM = ("training views", "training images", "scored images")


def _clusters(
    method: IMCSwAV,
    images: ImageSet,
    clusters: int,
    protocol: KMeansProtocol,
    fit_images: ImageSet,
    main_only: bool,
) -> dict[str, Any]:
    """The scores of IMC-SwAV's classifier; see :func:`evaluate`."""
    labels = images.labels

    def score(result: Any) -> dict[str, float] | None:
        return None if labels is None else clustering_scores(labels, result)

    main = extract(method, images.images, "assign").argmax(1)
    usage = cluster_usage(main, clusters)._asdict()
    result: dict[str, Any] = {"metrics": score(main), "usage": usage}
    if main_only:
        return result
    found = {BATCH_NORM[0]: main}
    for kind, source in zip(BATCH_NORM[1:], (fit_images, images), strict=True):
        with batch_norm_of(method, source.images):
            found[kind] = extract(method, images.images, "assign").argmax(1)
    fitted = kmeans(extract(method, fit_images.images, protocol.layer), clusters, protocol=protocol)
    assigned, _ = assign_to_centres(
        extract(method, images.images, protocol.layer),
        fitted.centres,
        normalise=protocol.normalise,
        variance=fitted.variance,
    )

    rows: list[dict[str, Any]] = [
        {"kind": "argmax p", "batch_norm": kind, "scores": score(clustering)}
        for kind, clustering in found.items()
    ]
    rows.append({"kind": "k-means", **asdict(protocol), "scores": score(assigned)})
    result |= {"protocols": rows}
    return result if labels is None else result | {"counts": _counts(labels, main, clusters)}


@contextmanager
def batch_norm_of(
    method: Method, images: torch.Tensor, *, batches: int = 50, batch_size: int = 256
) -> Iterator[None]:
    """Inside, the batch-norm statistics of a method are those of plain images.

    The running statistics go on from where they are, with their own momentum, as in the official
    code of IMC-SwAV (``utils.py``: 50 batches of the training's size). The images are shuffled in
    a fixed order. Afterwards all is as before.

    Args:
        method: Its backbone and the layers that :meth:`Method.assign` uses.
        images: uint8 ``(N, C, H, W)``.
        batches: At most this many.
        batch_size: Images a batch; an incomplete last one is left out.
    """
    kept = {name: value.clone() for name, value in method.named_buffers()}
    training, device = method.training, next(method.parameters()).device
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    size = min(batch_size, len(images))
    method.train()
    try:
        with torch.no_grad():
            for chosen in order.split(size)[: min(batches, len(images) // size)]:
                method.assign(images[chosen.to(images.device)].to(device))
        method.train(training)
        yield
    finally:
        method.train(training)
        for name, value in method.named_buffers():
            value.copy_(kept[name])


def _counts(labels: torch.Tensor, assigned: torch.Tensor, clusters: int) -> list[list[int]]:
    """Images by class and cluster."""
    known = labels >= 0
    counts = torch.zeros(int(labels.max()) + 1, clusters, dtype=torch.int64)
    one = torch.ones((), dtype=torch.int64)
    return counts.index_put_((labels[known], assigned[known]), one, accumulate=True).tolist()


def _classes(method: Finetune, images: ImageSet) -> dict[str, Any]:
    """The scores of a classifier, whose class c is class c; see :func:`evaluate`."""
    found = {
        kind: extract(method, images.images, what).argmax(1)
        for kind, what in (("ten crops", "assign"), ("centre crop", "logits"))
    }

    def score(classes: torch.Tensor) -> dict[str, float] | None:
        if images.labels is None:
            return None
        right = (classes == images.labels)[images.labels >= 0]
        scores = clustering_scores(images.labels, classes)
        return scores | {"accuracy": right.double().mean().item()}

    rows = [{"kind": kind, "scores": score(classes)} for kind, classes in found.items()]
    return {
        "metrics": rows[0]["scores"],
        "usage": cluster_usage(found["ten crops"], method.classes)._asdict(),
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
