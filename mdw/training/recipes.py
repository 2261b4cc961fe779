"""Training recipes: one function each; its docstring gives the command, the hardware, the time and the expected result.

The augmentation options are in `Augmentation`, the learning-rate schedule is `learning_rate`.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from mdw.data import DATASETS, METRICS
from mdw.data.augment import LITE_COCO, MDW_COCO, MDW_MPII, NONE, Augmentation
from mdw.models.rules import RULES
from mdw.pose.heatmap import BLUR_KERNEL
from mdw.util.errors import MdwError
from mdw.util.fields import later, plain
from mdw.util.typed import Count, Example, Must, NotNegative, Odd, Positive, Size, Whole, Word, build, one_of, settle
from mdw.util.words import unknown

RISING = Must("be in rising order", lambda steps: list(steps) == sorted(set(steps)))


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training besides network, data folder and seed. Raises MdwError for a value out of range.

    data: a name for `mdw.data.load`, with `train_split`/`val_split` and their `train_options`/`val_options`.
    input_size: (width, height) in pixels; the heatmap has a quarter of each. sigma: heatmap pixels.
    lr_steps: epochs (0-based) from which the rate is multiplied by 0.1 once more. warmup_iterations: linear, from 0.001 of
    the rate. lr_scale_to: None, or the batch size that `lr` is meant for: the rate is then scaled to `batch_size`, by
    lr_scaling "linear" (Goyal et al. 2017) or "sqrt" (of the ratio; for Adam, Malladi et al. 2022).
    loss_factor: 1/2 as HRNet, 1 as mmpose. drop_last: the last incomplete batch of an epoch is left out.
    eval_every: epochs between validations (the last epoch is always validated). metric: "pck", "pckh" or "AP", one that the
    data set has. blur: None, or the odd width of the Gaussian filter on heatmaps before a validation decodes them; mmpose's
    is 11 for a sigma of 2 and 17 for 3 (`mdw.pose.heatmap.BLUR_KERNEL`).
    batch_size: persons per update, over all processes together. accumulate: an update's gradient is the sum over that many
    equal parts of the batch, each with its own BatchNorm statistics. ema: 0, or the decay of the moving average of the weights,
    which is then validated and saved (smaller at the beginning: timm's warm-up). sync_batchnorm: with several processes
    BatchNorm sees all of the batch, so that they compute what one process would. deterministic: only operators that repeat
    exactly, also on a GPU.
    precision: "bfloat16" computes convolutions and matrix products of a training step in it (torch's autocast); weights, norms'
    statistics, softmaxes, the loss and every validation stay in float32.
    init: how kernels are initialised, see `mdw.models.init`. "mixed" is the rule of runs before this field existed; our own
    recipes take "scaled", under which static and dynamic kernels start with the same scale, the published ones "published".
    """

    name: Word
    data: Annotated[str, one_of(DATASETS)]
    train_split: Word = "train"
    val_split: Word = "val"
    train_options: dict[str, Any] = field(default_factory=dict)
    val_options: dict[str, Any] = field(default_factory=dict)
    input_size: Size = (192, 256)
    sigma: Positive = 2.0
    epochs: Count = 240
    batch_size: Count = 32
    lr: Positive = 2e-3
    lr_steps: Annotated[tuple[Count, ...], RISING] = (170, 200)
    lr_scale_to: Annotated[Count | None, Example(512)] = None
    warmup_iterations: Whole = 500
    weight_decay: NotNegative = 0.0
    loss_factor: Positive = 0.5
    drop_last: bool = True
    augmentation: Augmentation = MDW_COCO
    eval_every: Count = 10
    flip_test: bool = True
    metric: Literal["pck", "pckh", "AP"] = "AP"
    blur: Annotated[Odd | None, Example(11)] = later(None)
    lr_scaling: Literal["linear", "sqrt"] = later("linear")
    accumulate: Count = later(1)
    ema: Annotated[float, Ge(0), Lt(1)] = later(0.0)
    sync_batchnorm: bool = later(True)
    deterministic: bool = later(False)
    precision: Literal["float32", "bfloat16"] = later("float32")
    init: Annotated[str, one_of(RULES), Example("scaled")] = later("mixed")

    def __post_init__(self) -> None:
        settle(self)
        if self.accumulate > self.batch_size:
            raise MdwError(f"accumulate is {self.accumulate}: a batch of {self.batch_size} has not so many parts; give less")
        if self.metric not in METRICS[self.data]:
            of_data = " or ".join(METRICS[self.data]) or "nothing, it is only for looking at"
            raise MdwError(f"metric is {self.metric!r}; the data set {self.data} is measured by {of_data}")

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(width, height) of the heatmaps."""
        return self.input_size[0] // 4, self.input_size[1] // 4

    @property
    def aspect(self) -> float:
        """Width / height of the input."""
        return self.input_size[0] / self.input_size[1]

    def to_dict(self) -> dict:
        """Returns plain JSON values without later fields at their default (see `mdw.util.fields`); inverse: `from_dict`."""
        return plain(self)

    @staticmethod
    def from_dict(values: dict) -> "Recipe":
        """Returns the recipe that `to_dict` wrote. Raises MdwError for an unknown field and for a bad value."""
        if isinstance(values, dict) and "augmentation" in values:
            values = values | {"augmentation": build(Augmentation, values["augmentation"], "augmentation")}
        return build(Recipe, values, "a recipe")


def learning_rate(recipe: Recipe, epoch: int, iteration: int) -> float:
    """Returns the rate at 0-based `epoch` and global `iteration`: base * 0.1^(steps passed), warmed up linearly from 0.001.

    These are mmcv's steps and warm-up (docs/reconstruction.md, P3), as in the Lite- and Dite-HRNet configurations.
    """
    base = recipe.lr
    if recipe.lr_scale_to is not None:
        power = 0.5 if recipe.lr_scaling == "sqrt" else 1.0
        base *= (recipe.batch_size / recipe.lr_scale_to) ** power
    rate = base * 0.1 ** sum(step <= epoch for step in recipe.lr_steps)
    if iteration < recipe.warmup_iterations:
        rate *= 1 - (1 - iteration / recipe.warmup_iterations) * (1 - 0.001)
    return rate


def paper() -> Recipe:
    """The article's recipe: COCO, 256x192, Adam 2e-3, batch 32, 240 epochs, steps at 170 and 200, no pre-training.

    `mdw train mdw_hrnet_18 --recipe paper --root COCO`; one GPU of 24 GB, days. The article reports AP 67.8 (detector boxes).
    The rate is Lite-HRNet's for a batch of 512; see `lr_scale_to` before you use it with 32.
    """
    return Recipe("paper", "coco", blur=BLUR_KERNEL[2], init="published")


def large_batch() -> Recipe:
    """The article's recipe for one large GPU, or several: batch 1024, with Lite-HRNet's rate for 512 scaled linearly.

    `mdw train mdw_hrnet_18 --recipe large_batch --root COCO`. The warm-up of 730 iterations is five epochs of COCO, as
    Goyal et al. 2017 recommend. Not run yet; if it diverges, take `large_batch_sqrt`.
    """
    return replace(paper(), name="large_batch", batch_size=1024, lr_scale_to=512, warmup_iterations=730)


def large_batch_sqrt() -> Recipe:
    """`large_batch` with the rate scaled by the square root, as for Adam (Malladi et al. 2022). Not run yet."""
    return replace(large_batch(), name="large_batch_sqrt", lr_scaling="sqrt")


def paper_mpii() -> Recipe:
    """The article's recipe on MPII, 256x256, no half-body: `mdw train mdw_hrnet_18 --recipe paper_mpii --root MPII`."""
    return replace(paper(), name="paper_mpii", data="mpii", input_size=(256, 256), augmentation=MDW_MPII, metric="pckh")


def lite() -> Recipe:
    """Lite-HRNet's recipe: batch 512, 210 epochs, loss without the half, mmpose 0.16's centre jitter. AP 64.8 (-18)."""
    return replace(paper(), name="lite", epochs=210, batch_size=512, loss_factor=1.0, augmentation=LITE_COCO, blur=None)


def dite() -> Recipe:
    """Dite-HRNet's recipe: as Lite-HRNet's with batch 256 and 270 epochs. AP 65.9 (-18)."""
    return replace(lite(), name="dite", epochs=270, batch_size=256)


def lspet() -> Recipe:
    """Real people without COCO: LSPET's 8,500 training persons at 256x192, 60 epochs.

    `mdw train mdw_hrnet_18 --recipe lspet --set lr=0.008 --root LSPET --backend tuned`, with the network's rate of
    `mdw.experiments.studies.BEST`; for a GPU, in bfloat16. Time and result have not been measured yet.
    """
    return Recipe(
        "lspet",
        "lspet",
        epochs=60,
        lr_steps=(42, 54),
        warmup_iterations=200,
        augmentation=MDW_MPII,
        eval_every=5,
        metric="pck",
        precision="bfloat16",
        init="scaled",
    )


def lspet_small() -> Recipe:
    """LSPET at 128x96 for a machine without a GPU: 12 epochs, about 100,000 samples.

    `mdw reproduce lspet --preset lspet_small --root LSPET`, which gives each network the best learning rate of the search;
    on one CPU core 50 minutes for Lite-HRNet-18, 47 for MDW-HRNet-18. Results are in `runs/`; the mean pose of the training set
    alone gives PCK@0.2 4.7, and two annotators agree at about 76.
    """
    return replace(
        lspet(),
        name="lspet_small",
        input_size=(96, 128),
        sigma=1.5,
        epochs=12,
        lr_steps=(9, 11),
        warmup_iterations=100,
        eval_every=2,
        precision="float32",
    )


def lspet_hour() -> Recipe:
    """`lspet_small` cut to an hour on one or two CPU cores: 5 epochs, 42,400 samples.

    `mdw train mdw_hrnet_18 --recipe lspet_hour --root LSPET`. It shows whether training on real people works, not how good the
    network can get.
    """
    return replace(lspet_small(), name="lspet_hour", epochs=5, lr_steps=(4,), eval_every=1)


def lspet_search() -> Recipe:
    """`lspet_small` cut to two epochs, to choose learning rates without using the validation split.

    It trains on 8,000 of the 8,500 training persons and measures on the other 500 (`mdw.data.lsp`: "fit" and "holdout").
    `mdw train mdw_hrnet_18 --recipe lspet_search --set lr=0.001 --root LSPET`.
    """
    return replace(
        lspet_small(), name="lspet_search", train_split="fit", val_split="holdout", epochs=2, lr_steps=(1,), eval_every=1
    )


def custom() -> Recipe:
    """The user's own joints: `lspet`'s schedule on a keypoint file in COCO's format, measured by AP with the user's sigmas.

    `mdw train mdw_hrnet_18 --recipe custom --joints joints.toml --root FOLDER` (see `mdw.data.custom`); a schedule for some
    8,500 objects, not measured on any.
    """
    return replace(lspet(), name="custom", data="custom", metric="AP", precision="float32")


def demo() -> Recipe:
    """The default without a download: synthetic people at 96x64, a minute or two on two CPU cores.

    `mdw train mdw_hrnet_18 --recipe demo`. It shows that training works, not how good a network is: expect a PCK@0.2 of about
    20, where the mean pose in the box has 11. The people have all poses and views already, so mirroring is the only
    augmentation.
    """
    return Recipe(
        "demo",
        "people",
        train_options={"count": 640, "size": [64, 96]},
        val_options={"count": 128, "size": [64, 96]},
        input_size=(64, 96),
        sigma=1.5,
        epochs=4,
        batch_size=16,
        lr=3e-3,
        lr_steps=(3,),
        warmup_iterations=20,
        augmentation=replace(NONE, flip_probability=0.5),
        eval_every=1,
        metric="pck",
        init="scaled",
    )


def smoke() -> Recipe:
    """For the tests, takes seconds: the demo with a few synthetic people and COCO's metric. Its figures mean nothing."""
    return replace(
        demo(),
        name="smoke",
        train_options={"count": 8, "size": [64, 96]},
        val_options={"count": 4, "size": [64, 96]},
        epochs=2,
        batch_size=4,
        lr_steps=(1,),
        warmup_iterations=2,
        metric="AP",
    )


_MAKERS = (
    paper,
    paper_mpii,
    large_batch,
    large_batch_sqrt,
    lite,
    dite,
    lspet,
    lspet_small,
    lspet_hour,
    lspet_search,
    custom,
    demo,
    smoke,
)
RECIPES = {make.__name__: make for make in _MAKERS}


def get(name: str, /, **changes) -> Recipe:
    """Returns the recipe `name` with some fields replaced; a dict for `augmentation` replaces only its own fields.

    Raises MdwError for an unknown recipe or field and for a bad value.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise unknown("there is no recipe", name, RECIPES, "the recipes are")
    recipe = RECIPES[name]()
    if isinstance(changes.get("augmentation"), dict):
        changes |= {"augmentation": build(Augmentation, changes["augmentation"], "augmentation", recipe.augmentation)}
    return build(Recipe, changes, "a recipe", recipe)
