"""What a method is: its settings, views, loss terms and start, and how it sorts images."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mixem.clustering import KMeansProtocol, assign_to_centres, kmeans, nearest_neighbours
from mixem.data import Augmentation, ImageSet, check_channels, check_tensor
from mixem.errors import InputError, memory_is_full, require_whole
from mixem.progress import bar

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Clustering",
    "Maps",
    "Method",
    "MethodSettings",
    "Step",
    "at_least",
    "extract",
    "mixed",
    "refuse_neighbours",
]


@dataclass(frozen=True)
class MethodSettings:
    """What a method is made of, the argument of its constructor; the defaults are the paper's.

    A method's own settings are a frozen dataclass in its file that extends this one and checks
    its values when it is made.

    Attributes:
        neighbours: Nearest images, by the features, of which one is shown instead of a second view
            of the image itself; 0 for two views. Vectors have no other views.
    """

    neighbours: int = field(default=0, metadata={"source": "this book: 0, two views of an image"})

    def __post_init__(self) -> None:
        """Check the values."""
        at_least(self, neighbours=0)

    def splits(self) -> dict[str, str]:
        """The passes over other images than those of the training split, and their split."""
        return {}

    def elsewhere(self) -> "Self":
        """These settings for other images, whose splits have other names."""
        return self


def at_least(settings: object, **bounds: float) -> None:
    """Raise :class:`InputError` unless each named value is finite and at least its bound."""
    for name, least in bounds.items():
        if not least <= getattr(settings, name) < math.inf:
            raise InputError(f"{name} is {getattr(settings, name)}; give at least {least}")


def refuse_neighbours(settings: MethodSettings) -> None:
    """Raise :class:`InputError` where a method that draws no pairs is to draw neighbours."""
    if settings.neighbours:
        raise InputError(f"neighbours is {settings.neighbours}; this method has none, leave it 0")


class Step(NamedTuple):
    """What one batch gives.

    Attributes:
        terms: The weighted loss terms by name; their sum is the loss.
        assignments: Soft assignments ``(B, k)`` of the batch without gradient, or ``(h, B, k)`` of
            h sub-heads, or ``(h, B, H, W, k)`` of pixels, for the collapse meter; None for a
            method without clusters of its own.
        details: Further numbers, or ``(n,)`` of them, without gradient, that the log keeps the
            means of.
        hits: How often each of several things, such as prototypes, was taken in the batch,
            ``(n,)``; the log keeps how many of them ever were.
    """

    terms: dict[str, torch.Tensor]
    assignments: torch.Tensor | None = None
    details: dict[str, torch.Tensor] | None = None
    hits: dict[str, torch.Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Clustering:
    """One way in which a method sorts images, found without labels.

    Attributes:
        kind: How the clusters were found, such as "argmax p" or "k-means".
        clusters: int64 ``(N,)``, the cluster of each image.
        switches: What tells it from others of its kind, such as ``{"normalise": True}``.
        fitted: int64 ``(M,)``, the clusters of the images whose labels say which class a cluster
            is, for a method that maps by a majority; by default the images themselves.
    """

    kind: str
    clusters: torch.Tensor
    switches: Mapping[str, Any] = field(default_factory=dict)
    fitted: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Maps:
    """One way in which a method sorts the pixels of images, found without labels.

    A million pixels are not kept: they are sorted when they are counted, a few images at a time.

    Attributes:
        kind: As that of a :class:`Clustering`.
        sort: From some uint8 images ``(n, C, h, w)`` on the method's device to the clusters
            int64 ``(n, H, W)`` of the pixels of their central squares.
        switches: As those of a :class:`Clustering`.
    """

    kind: str
    sort: Callable[[torch.Tensor], torch.Tensor]
    switches: Mapping[str, Any] = field(default_factory=dict)


class Method(nn.Module):
    """A network with a way of drawing views, a loss, features and clusters.

    Args:
        backbone: Maps float images ``(N, C, H, W)`` to features ``(N, D)``; has ``out_features``.
            One of vectors has ``takes_vectors = True``, see :class:`mixem.models.Prepared`. If it
            has a function ``fit``, that gets all training images before the first step.
        views: How a training view is drawn; its ``plain`` form is what evaluation sees.
        settings: What else the method is made of; by default the paper's.
        clusters: Number k of clusters.

    Attributes:
        Settings: Class of the settings.
        passes: What an epoch consists of: the names of its passes over the images, in order.
        sorts: What has a cluster, and is scored: "images", or "pixels" with the masks of images.
            The latter yields :class:`Maps` as clusterings and has :meth:`whole_maps`.
        clusters_itself: The method's own clusters, :meth:`assign`, are the main ones, and not
            k-means on its features.
        has_components: :meth:`assign` can start k-means.
        mapping: How clusters get a class when they are scored: "one-to-one", matched to each
            other; "majority" of the labels of the fitted images; "identity" for a classifier,
            whose class c is class c.
        takes_start: Whether training can begin from another run, see :meth:`start_from`, and what
            the two share: "images" and backbone; "views" as well; or "nothing", so that the start
            is taken as it is. None if not.
        trains: Something is trained; else an experiment has 0 epochs.
        rests_parts: Not every step uses all of the network.
        labels_on_host: :meth:`supervised_step` gets its labels on the CPU, wherever the views are,
            to choose images by them without waiting for a GPU.
        outputs: What :func:`extract` can ask for.
        channels: Of the images it was made for; None if that is not known.
        goes_on: It has all weights of another one, :meth:`go_on_from`, and is not begun anew.

    Raises:
        InputError: If the backbone does not say how long its features are, or k is no number.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    passes: tuple[str, ...] = ("images",)
    sorts: ClassVar[Literal["images", "pixels"]] = "images"
    clusters_itself: ClassVar[bool] = False
    has_components: ClassVar[bool] = False
    mapping: Literal["one-to-one", "majority", "identity"] = "one-to-one"
    takes_start: ClassVar[Literal["images", "views", "nothing"] | None] = None
    trains: ClassVar[bool] = True
    rests_parts: ClassVar[bool] = False
    labels_on_host: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...]] = (
        "features",
        "embeddings",
        "assign",
        "cluster",
        "distances",
    )

    channels: int | None = None
    goes_on: bool = False
    settings: Any
    centres: torch.Tensor
    variance: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: MethodSettings | None = None,
        *,
        clusters: int = 10,
    ):
        settings = self.Settings() if settings is None else settings
        if not isinstance(settings, self.Settings):
            raise InputError(
                f"{type(self).__name__} with {type(settings).__name__}; "
                f"give {self.Settings.__name__}"
            )
        require_whole("clusters", clusters)
        size = getattr(backbone, "out_features", None)
        if not isinstance(size, int):
            raise InputError(
                f"the backbone, {type(backbone).__name__}, has no out_features; set it to the "
                "length of its features, such as backbone.out_features = 512"
            )
        super().__init__()
        self.backbone = backbone
        self.views = views
        self.settings = settings
        self.clusters = clusters
        self.feature_size: int = size
        self.register_buffer("centres", torch.zeros(clusters, size))
        self.register_buffer("variance", torch.zeros(()))  # 0: no centres yet

    # --- training ---------------------------------------------------------------------------

    def start_from(self, other: "Method") -> None:
        """Take what another method has learned; by default its backbone.

        Raises:
            InputError: If the method begins from random weights, or the two do not fit.
        """
        if self.takes_start is None:
            name = type(self).__name__
            raise InputError(
                f"{name} begins from random weights, or goes on from a run of {name}; leave start "
                "out, or give such a run"
            )
        try:
            self.backbone.load_state_dict(other.backbone.state_dict())
        except RuntimeError as error:
            if memory_is_full(error):
                raise
            raise InputError(
                "the start has another backbone, or was trained on images of another size or "
                "number of channels; start from a run on the same images"
            ) from error

    def begin(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """What is found once before the first step, without labels; not after a warm start.

        By default what the backbone wants to know of the training images, such as the mean of
        features (:class:`mixem.models.Prepared`).
        """
        if fit := getattr(self.backbone, "fit", None):
            fit(images)

    def go_on_from(self, other: "Method") -> None:
        """Take all weights of a method of the same kind: a warm start.

        Where only the heads differ, as for another number of clusters, the backbone is taken, and
        the heads begin as they would without a start.

        Raises:
            InputError: If the backbones differ.
        """
        theirs, ours = other.state_dict(), self.state_dict()
        same = {n: v for n, v in theirs.items() if n in ours and ours[n].shape == v.shape}
        lacking = [name for name in ours if name not in same and name.startswith("backbone.")]
        if lacking:
            raise InputError(
                f"the start has another backbone ({lacking[0]} is not there or of another shape), "
                "or was trained on images of another size or number of channels; start from a run "
                "of the same experiment"
            )
        whole = same.keys() == ours.keys()
        taken = same if whole else {n: v for n, v in same.items() if n.startswith("backbone.")}
        self.load_state_dict(ours | taken)
        self.goes_on = whole

    def companions(self, images: torch.Tensor) -> torch.Tensor | None:
        """Rows ``(N, m)`` of the images that go with each image, found before the first step.

        By default the nearest ones by the features, as many as ``settings.neighbours`` says; None
        if that is 0. With them, :meth:`draw_pairs` draws the views, and gets for each image the
        pixels of one of its companions, another one in each step.
        """
        if not self.settings.neighbours:
            return None
        return self.nearest(self, images, "features")

    def nearest(self, method: "Method", images: torch.Tensor, what: str) -> torch.Tensor:
        """Rows ``(N, K)`` of the ``settings.neighbours`` nearest images, by what a method says.

        Raises:
            InputError: If there are not so many images.
        """
        count = self.settings.neighbours
        if count >= len(images):
            raise InputError(
                f"{count} neighbours among {len(images)} images; give fewer with "
                "settings.neighbours"
            )
        method.to(self.device)
        return nearest_neighbours(extract(method, images, what), count).indices

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> Any:
        """Two independent views of each image: uint8 ``(B, C, h, w)`` to ``(2, B, C, H, W)``.

        A method may draw others, as its steps want them.
        """
        return self.views.several(images, 2, generator)

    def draw_pairs(
        self, images: torch.Tensor, companions: torch.Tensor, generator: torch.Generator
    ) -> Any:
        """A view of each image and one of its companion, both uint8 ``(B, C, h, w)``."""
        return self.views(torch.cat([images, companions]), generator).unflatten(0, (2, -1))

    def before_step(self, step: int) -> None:
        """Told how many steps are done, before each; nothing by default."""

    def step(self, views: Any, name: str = "images") -> Step:
        """Loss terms of a batch of views, in the pass of that name."""
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def bounds(self, images: int) -> dict[str, float]:
        """For some of the terms, the value that a collapsed network has with so many a batch."""
        return {}

    def targets(self, images: ImageSet) -> torch.Tensor | None:
        """Labels ``(N,)`` or masks ``(N, H, W)`` for :meth:`supervised_step`.

        By default None, and none are looked at.
        """

    def supervised_step(self, views: Any, labels: torch.Tensor, name: str = "images") -> Step:
        """Loss terms of a batch of views and its targets, in the pass of that name."""
        raise NotImplementedError(f"{type(self).__name__} does not define supervised_step")

    def rates(self) -> list[tuple[nn.Module, float]]:
        """The modules that are trained, each with its share of the learning rate."""
        return [(self, 1.0)]

    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """What is done once after the last epoch, without labels; nothing by default."""

    def settle(self, final: "Method") -> None:
        """Take over what :meth:`finish` chose in the trained method, in an earlier state of it."""

    # --- sorting ----------------------------------------------------------------------------

    def view_sizes(self) -> set[int]:
        """The sides of all images that the backbone is given."""
        return {self.views.size, self.views.plain_size or self.views.size}

    @property
    def device(self) -> torch.device:
        """Where the method is."""
        return self.centres.device

    @property
    def needs_a_batch(self) -> bool:
        """Batch norm has no running statistics, so images are judged by those beside them."""
        norms = (m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        return any(norm.running_mean is None for norm in norms)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images of any size as the network sees them outside training."""
        check_tensor(images)
        vectors = getattr(self.backbone, "takes_vectors", False)
        if (images.dtype, images.ndim) != ((torch.float16, 2) if vectors else (torch.uint8, 4)):
            what = ("float16 features", "(N, D)") if vectors else ("a uint8 tensor", "(N, C, H, W)")
            raise InputError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; "
                f"give {' of shape '.join(what)}"
            )
        if self.channels:
            check_channels(images, self.channels)
        views = self.views.plain(images)
        return views if views.ndim == 2 else views.contiguous(memory_format=torch.channels_last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Backbone output h ``(N, D)`` of uint8 images ``(N, C, H, W)``, not normalised."""
        return self.backbone(self.prepare(images))

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """What the loss compares, z ``(N, d)``, of uint8 images; by default the features."""
        return self.features(images)

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of uint8 images ``(N, C, H, W)``; rows sum to one."""
        raise NotImplementedError(f"{type(self).__name__} does not define assign")

    def whole_maps(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k, H, W)`` of the pixels of uint8 images ``(N, C, H, W)``.

        At their own scale and of any size; of a method that sorts pixels.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define whole_maps")

    def cluster(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of uint8 images: :meth:`assign`, or the kept centres.

        By the centres, the most probable cluster is the nearest centre of the normalised features.
        The probability is the posterior of equally frequent, equally wide round Gaussians at the
        centres; it ranks images within a run and is not calibrated.
        """
        if self.clusters_itself:
            return self.assign(images)
        return (-(self.distances(images) ** 2) / (2 * self.variance)).softmax(1)

    def distances(self, images: torch.Tensor) -> torch.Tensor:
        """Distances ``(N, k)`` of the normalised features of uint8 images to the kept centres."""
        if not self.variance > 0:
            raise InputError("the method has no cluster centres yet; evaluate the run first")
        h = F.normalize(self.features(images), dim=1)
        return torch.cdist(h, self.centres, compute_mode="donot_use_mm_for_euclid_dist")

    def keep_centres(self, centres: torch.Tensor, variance: float) -> None:
        """Keep k-means centres ``(k, D)`` of normalised features, saved with the weights.

        Args:
            centres: One row a cluster.
            variance: Mean squared distance of an image to its centre, divided by D.

        Raises:
            InputError: If there are not as many centres as clusters, or they are not as long as
                the features, or the variance is no number from 0 on.
        """
        if centres.shape != self.centres.shape:
            k, size = self.centres.shape
            raise InputError(
                f"centres of shape {tuple(centres.shape)} for {k} clusters and features of {size} "
                f"numbers; give {k} rows of {size}, or set clusters of the experiment"
            )
        if not 0 <= variance < math.inf:
            raise InputError(f"variance is {variance}; give a finite number from 0 on")
        self.centres.copy_(centres)
        self.variance.fill_(max(variance, torch.finfo(torch.float32).tiny))

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering] | Iterator[Maps]:
        """The ways in which the method sorts images, the main one first. No label is seen.

        Args:
            images: uint8 ``(N, C, H, W)``, to be sorted.
            fit: uint8 images on which k-means is fitted; None for the same.
            protocol: The k-means of the main number, for a method without clusters of its own.
        """
        if self.clusters_itself:
            yield Clustering("argmax p", extract(self, images, "assign").argmax(1))
        yield from self.kmeans_clusterings(images, fit, protocol)

    def kmeans_clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """k-means by a protocol, then with its other layers, scaling and starts.

        A method without clusters of its own keeps the centres of the normalised features. One with
        clusters needs no k-means, and has none where there are fewer images than clusters.
        """
        if self.clusters_itself and len(images if fit is None else fit) < self.clusters:
            return

        @functools.cache
        def found(what: str) -> torch.Tensor:
            return extract(self, images, what)

        @functools.cache
        def fitted(what: str) -> torch.Tensor:
            return found(what) if fit is None else extract(self, fit, what)

        for switches in self._kmeans_variants(protocol):
            components = fitted("assign").argmax(1) if switches.init == "components" else None
            result = kmeans(
                fitted(switches.layer), self.clusters, components=components, protocol=switches
            )
            clusters = result.clusters
            if fit is not None:
                clusters, _ = assign_to_centres(
                    found(switches.layer),
                    result.centres,
                    normalise=switches.normalise,
                    variance=result.variance,
                )
            kept = replace(protocol, layer="features", normalise=True)
            if switches == kept and not self.clusters_itself:
                self.keep_centres(torch.from_numpy(result.centres).float(), result.variance)
            yield Clustering("k-means", torch.from_numpy(clusters), asdict(switches))

    def _kmeans_variants(self, protocol: KMeansProtocol) -> list[KMeansProtocol]:
        """The main protocol first, then every other setting of the switches papers leave open."""
        if protocol.init == "components" and not self.has_components:
            raise InputError(
                f"k-means init is 'components' and {type(self).__name__} has none; "
                "give 'k-means++' as protocol.init"
            )
        layers: tuple[Literal["features", "embeddings"], ...] = ("features", "embeddings")
        if type(self).embeddings is Method.embeddings:
            layers = ("features",)
        variants = [
            replace(protocol, layer=layer, normalise=normalise, init=init)
            for layer in layers
            for normalise in (True, False)
            for init in (("components", "k-means++") if self.has_components else ("k-means++",))
        ]
        return [protocol, *(variant for variant in variants if variant != protocol)]


def mixed(images: torch.Tensor) -> torch.Tensor:
    """A fixed random order of images ``(N, ...)``, int64 ``(N,)`` on their device.

    For batches whose statistics matter: the files of a folder are often sorted by class.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return order.to(images.device)


@torch.no_grad()
def extract(
    method: Method,
    images: torch.Tensor,
    what: str = "features",
    *,
    batch_size: int = 1024,
    in_order: bool = False,
) -> torch.Tensor:
    """Features, embeddings or assignments of a whole image tensor, batch by batch.

    The method is put into evaluation mode and left as it was found. A network that normalises with
    the batch at hand gets the images :func:`mixed`.

    Args:
        method: A trained method.
        images: uint8 ``(N, C, H, W)``, or float16 vectors ``(N, D)``, on any device.
        what: One of ``method.outputs``, the function to call: "features", "embeddings", "assign",
            "cluster", and what the method has besides, such as IIC's "sub_heads".
        batch_size: Images a batch.
        in_order: Mix nothing.

    Returns:
        float32 ``(N, ...)`` on the CPU, in the order of the images.

    Raises:
        InputError: If the method has no such output, the images do not fit, or there is one image
            only for a network that needs several.
    """
    if what not in method.outputs:
        has = ", ".join(method.outputs)
        raise InputError(f"what is {what!r}; {type(method).__name__} has {has}")
    check_tensor(images)
    mix = method.needs_a_batch and not in_order
    order = mixed(images) if mix else torch.arange(len(images), device=images.device)
    chosen = order.split(batch_size)
    if method.needs_a_batch:
        if len(images) == 1:
            raise InputError(
                "1 image for a network that normalises with the images given together; give more"
            )
        chosen = order.tensor_split(len(chosen))  # of about the same size
    device = method.device
    training = method.training
    method.eval()
    try:
        function = getattr(method, what)
        parts = []
        with bar(len(images), what) as shown:
            for rows in chosen:
                parts.append(_in_memory(function, images, rows, device, method.needs_a_batch))
                shown.update(len(rows))
    finally:
        method.train(training)
    found = torch.cat(parts)
    return found[order.argsort().cpu()] if mix else found


def _in_memory(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    rows: torch.Tensor,
    device: torch.device,
    whole: bool,
) -> torch.Tensor:
    """The function of some of the images; in two halves if a GPU's memory does not hold them."""
    try:
        return function(images[rows].to(device)).float().cpu()
    except torch.cuda.OutOfMemoryError:
        if whole or len(rows) < 2:
            raise
    halves = rows.tensor_split(2)  # outside of the except, whose error holds the memory
    return torch.cat([_in_memory(function, images, half, device, whole) for half in halves])
