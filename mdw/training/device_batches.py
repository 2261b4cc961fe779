"""Makes training batches on the device that trains: stored crops are warped and normalised there, and targets are made there.

Batches are those of `TrainingBatches`, from the same random numbers: targets and weights are equal to the last bit, crops up to
rounding (1 of 255 in few pixels with OpenCV 5; OpenCV 4 rounds positions to 1/32 px, so up to 5).

Images lie one after the other in one tensor, four bytes a pixel, so that a pixel is one number to fetch and images of any
size need no padding. A whole pack lies on the device where it fits; otherwise a thread decodes and sends the images of each
batch ahead. On a CPU this is not faster than OpenCV (docs/measurements.md has the figures): it is for GPUs.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from mdw.data.packed import Packed
from mdw.data.sample import Dataset
from mdw.data.warp import normalise
from mdw.training.batches import TrainingBatches
from mdw.training.recipes import Recipe
from mdw.training.step import Batch
from mdw.util.errors import MdwError

FREE_FRACTION = 0.5  # of the free memory that resident images may take
BLOCK = {"cpu": 2**17, "cuda": 2**23}  # output pixels warped at once; bounded by the CPU's cache and the GPU's memory


class DeviceBatches(TrainingBatches):
    """`TrainingBatches` of a pack, made on `device`: (crops, targets, weights), all on it.

    resident: whether all images are decoded once, now, and stay on the device at 4 bytes a pixel; None: where they fit into
    half of its free memory. `workers` threads decode. Raises MdwError for a data set that is no pack, a pack for another
    recipe, and where `resident` images do not fit.
    """

    def __init__(self, dataset: Packed, recipe: Recipe, seed: int, device: str, resident: bool | None = None, workers: int = 1):
        if not isinstance(dataset, Packed):
            raise MdwError(f"{dataset.name} is read from its images; `mdw data pack` it first to make batches on the device")
        super().__init__(dataset, recipe, seed, workers)
        self.device = torch.device(device)
        self.shapes = np.array([sample.image.size for sample in dataset.samples], np.int64)  # (N, 2): w, h
        need, free = 4 * int(self.shapes.prod(axis=1).sum()), FREE_FRACTION * free_memory(self.device)
        if resident and need > free:
            raise MdwError(
                f"the images of {dataset.root} take {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of {device} may be "
                "used for them; leave them where they are (resident=False)"
            )
        self.resident = need <= free if resident is None else resident
        if self.resident:
            self.begins = _begins(self.shapes)
            self.images = torch.empty(need // 4, dtype=torch.int32, device=self.device)
            for begin in range(0, len(dataset), 256):  # no second copy of the whole
                part, span = self._decode(np.arange(begin, min(begin + 256, len(dataset)))), int(self.begins[begin])
                self.images[span : span + len(part)] = part.to(self.device)

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        sizes = self.shapes[indices]
        plan = self.plan(epoch, indices, sizes[:, 0])
        if self.resident:
            images, begins = self.images, self.begins[indices]
        else:
            images, begins = self._send(self._decode(indices)), _begins(sizes)
        columns, rows, weights = (self._send(torch.from_numpy(part)) for part in (plan.columns, plan.rows, plan.weights))
        crops = warp(images, begins, sizes, plan.matrices, plan.flips, self.recipe.input_size)
        return crops, columns[..., :, None] * rows[..., None, :], weights

    def _decode(self, indices: np.ndarray) -> Tensor:
        """Returns the images of these persons one after the other in host memory: int32, four bytes R, G, B, 255 a pixel."""
        sizes = self.shapes[indices]
        begins = _begins(sizes)
        row = torch.empty(int(sizes.prod(axis=1).sum()), dtype=torch.int32, pin_memory=self.device.type == "cuda")
        pixels = row.numpy().view(np.uint8)

        def decode(k: int) -> None:
            width, height = sizes[k]
            target = pixels[4 * begins[k] :][: 4 * width * height].reshape(height, width, 4)
            cv2.cvtColor(self.dataset[int(indices[k])].pixels(), cv2.COLOR_RGB2RGBA, dst=target)

        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(decode, range(len(indices))))
        return row

    def _send(self, part: Tensor) -> Tensor:
        if self.device.type == "cuda" and not part.is_pinned():
            part = part.pin_memory()
        return part.to(self.device, non_blocking=True)


def training_batches(dataset: Dataset, recipe: Recipe, seed: int, device: str, workers: int = 1) -> TrainingBatches:
    """Returns `DeviceBatches` for a pack on a GPU, otherwise `TrainingBatches`."""
    if torch.device(device).type == "cuda" and isinstance(dataset, Packed):
        return DeviceBatches(dataset, recipe, seed, device, workers=workers)
    return TrainingBatches(dataset, recipe, seed, workers)


def warp(
    images: Tensor, begins: np.ndarray, sizes: np.ndarray, matrices: np.ndarray, flips: np.ndarray, size: tuple[int, int]
) -> Tensor:
    """Returns N crops as `mdw.data.warp.warp` and `normalise` make them: (N, 3, H, W) float32 on the device of `images`.

    images: int32 (P,), a pixel has the bytes R, G, B and a fourth that is ignored; image k begins at begins[k] and has sizes[k]
    = (w, h). matrices (N, 2, 3) lead from the image, mirrored where flips (N,), to the crop of size (W, H). Bilinear; black
    outside the image and for a matrix of zeros; values are rounded to integer levels as in OpenCV.
    """
    width, height = size
    block = max(1, BLOCK.get(images.device.type, 2**20) // (width * height))
    back, table = _inverse(matrices, sizes[:, 0], flips), torch.from_numpy(_table()).to(images.device)
    crops = torch.empty(len(begins), 3, height, width, device=images.device)
    for k in range(0, len(begins), block):
        block_slice = slice(k, k + block)
        starts, wh, inverse = (
            torch.from_numpy(np.ascontiguousarray(a[block_slice])).to(images.device) for a in (begins, sizes, back)
        )
        _warp(images, starts, wh, inverse, table, crops[block_slice])
    return crops


def _warp(images: Tensor, begins: Tensor, sizes: Tensor, back: Tensor, table: Tensor, out: Tensor) -> None:
    height, width = out.shape[2:]
    u, v = (torch.arange(n, dtype=torch.float64, device=out.device) for n in (width, height))
    corner = lambda k: back[:, k, 0, None, None] * u + (back[:, k, 1, None] * v + back[:, k, 2, None])[..., None]  # noqa: E731
    x, y = corner(0), corner(1)  # (n, H, W) float64: float32 loses a hundredth of a pixel far from the origin
    left, top = x.floor(), y.floor()
    x, y = (x - left).float()[:, None], (y - top).float()[:, None]
    w, h = sizes[:, 0, None, None], sizes[:, 1, None, None]
    left, top = left.clamp(-2, 2**24).int(), top.clamp(-2, 2**24).int()

    def tap(dx: int, dy: int) -> Tensor:  # (n, 3, H, W) float32
        column, line = left + dx, top + dy
        inside = (column >= 0) & (column < w) & (line >= 0) & (line < h)
        index = begins[:, None, None] + line.clamp(min=0) * w + column.clamp(min=0)
        pixel = torch.where(inside, images.take(torch.where(inside, index, 0)), 0)
        return torch.stack([(pixel >> shift) & 255 for shift in (0, 8, 16)], dim=1).float()

    upper = torch.lerp(tap(0, 0), tap(1, 0), x)
    value = torch.lerp(upper, torch.lerp(tap(0, 1), tap(1, 1), x), y).round_()
    torch.addcmul(table[1, :, None, None], value, table[0, :, None, None], out=out)


def _inverse(matrices: np.ndarray, widths: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Returns matrices (N, 2, 3) float64 from crop pixels to pixels of the stored image; far outside for a matrix of zeros."""
    linear, offset = matrices[:, :, :2], matrices[:, :, 2:]
    det = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    regular = (det != 0)[:, None, None]
    inverse = np.linalg.inv(np.where(regular, linear, np.eye(2)))
    back = np.where(regular, np.concatenate([inverse, -inverse @ offset], axis=2), [[0.0, 0.0, -2.0]] * 2)
    mirror = np.flatnonzero(flips & (det != 0))
    back[mirror, 0] *= -1
    back[mirror, 0, 2] += widths[mirror] - 1
    return back


def _begins(sizes: np.ndarray) -> np.ndarray:
    """Returns where each image of these sizes (N, 2) begins when they are stored in a row, in pixels; int64 (N,)."""
    return np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]]).astype(np.int64)


def _table() -> np.ndarray:
    """Returns `normalise` as factors (first row) and offsets (second row) for R, G and B: (2, 3) float32."""
    low, high = (normalise(np.full((1, 1, 3), value, np.uint8))[:, 0, 0].astype(np.float64) for value in (0, 255))
    return np.stack([(high - low) / 255, low]).astype(np.float32)


def free_memory(device: torch.device) -> int:
    """Returns the free bytes of the device (of the machine, for a CPU)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
