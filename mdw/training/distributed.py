"""Training of one network by several processes, started by `torchrun`: gloo on CPUs, NCCL on GPUs. One process needs neither.

All gradients are summed in one message after the backward pass, without DistributedDataParallel: they are a few megabytes, some
networks have parameters that no output needs, and the model stays the plain module that is saved and compiled.
"""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mdw.util.errors import MdwError


@dataclass(frozen=True)
class World:
    """This process among those of its run. All processes must call the methods that exchange data, in the same order.

    These raise MdwError where another process has ended.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def local(self, items):
        """Returns this process's part of a sequence; the parts are consecutive, disjoint and together the whole sequence."""
        return items if self.size == 1 else items[self._cut(len(items), self.rank) : self._cut(len(items), self.rank + 1)]

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum of all processes' `values`, which are overwritten by it."""
        if self.size > 1:
            with _needs_all():
                dist.all_reduce(values)
        return values

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.size > 1:
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            flat = self.sum(torch.cat([g.reshape(-1) for g in gradients]))
            pieces = flat.split([g.numel() for g in gradients])
            torch._foreach_copy_(gradients, [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)])

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the first process's buffers to all: running statistics differ unless BatchNorm is synchronised."""
        if self.size > 1:
            with _needs_all():
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)

    def first(self, data: bytes) -> bytes:
        """Returns the first process's `data` in every process."""
        if self.size == 1:
            return data
        with _needs_all():
            length = torch.tensor([len(data)], device=self.device)
            dist.broadcast(length, 0)
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.main and data else None
            content = torch.empty(int(length.item()), dtype=torch.uint8) if content is None else content
            content = content.to(self.device)
            dist.broadcast(content, 0)
        return content.cpu().numpy().tobytes()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Returns the rows (n, ...) float32 of all processes, in order of rank."""
        if self.size == 1:
            return rows
        counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        counts[self.rank] = len(rows)
        lengths = self.sum(counts).tolist()
        padded = torch.zeros((max(lengths), *rows.shape[1:]), device=self.device)
        padded[: len(rows)] = torch.from_numpy(rows)
        gathered = [torch.empty_like(padded) for _ in lengths]
        with _needs_all():
            dist.all_gather(gathered, padded)
        return np.concatenate([received[:n].cpu().numpy() for received, n in zip(gathered, lengths, strict=True)])

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.sum(torch.zeros(1, device=self.device))

    def synchronise(self, model: nn.Module) -> nn.Module:
        """Returns the model with BatchNorm over the samples of all processes: torch's on GPUs, `SyncedBatchNorm` on CPUs.

        Raises MdwError on CPUs for a network with another kind of BatchNorm.
        """
        if self.size == 1:
            return model
        if self.device != "cpu":
            from timm.layers import convert_sync_batchnorm  # torch's, and timm's own norms as well

            return convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats and module.momentum:
                module.__class__ = SyncedBatchNorm  # it has the same state
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise MdwError(f"{type(module).__name__} is not synchronised on CPUs; give --set sync_batchnorm=false")
        return model

    def _cut(self, length: int, rank: int) -> int:
        return length * rank // self.size


class SyncedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the samples of all processes, for CPUs, where torch's SyncBatchNorm does not run."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(x.dtype), self.momentum)
        self.running_var.lerp_((variance * (count / (count - 1))).to(x.dtype), self.momentum)
        return y


class _Normalise(torch.autograd.Function):
    """One message forward, one backward. The gradients of weight and bias stay local: training sums all gradients anyway."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float):
        channels, local_count = x.shape[1], x.numel() // x.shape[1]
        variance, mean = (moment.double() for moment in torch.var_mean(x, (0, 2, 3), correction=0))
        sums = torch.cat([mean * local_count, (variance + mean.square()) * local_count, mean.new_tensor([local_count])])
        with _needs_all():
            dist.all_reduce(sums)
        mean, count = sums[:channels] / sums[-1], sums[-1]
        variance = (sums[channels:-1] / count - mean.square()).clamp(min=0)
        scale = (variance + eps).rsqrt().to(x.dtype)
        normal = (x - mean.to(x.dtype)[:, None, None]) * scale[:, None, None]
        ctx.save_for_backward(normal, weight, scale)
        ctx.count = count.item()
        ctx.mark_non_differentiable(mean, variance, count)
        return normal * weight[:, None, None] + bias[:, None, None], mean, variance, count

    @staticmethod
    def backward(ctx, g: Tensor, *_):
        normal, weight, scale = ctx.saved_tensors
        of_bias, of_weight = g.sum((0, 2, 3)), (g * normal).sum((0, 2, 3))
        sums = torch.stack([of_bias, of_weight])
        with _needs_all():
            dist.all_reduce(sums)
        a, b = (part[:, None, None] / ctx.count for part in sums)
        return (weight * scale)[:, None, None] * (g - a - normal * b), of_weight, of_bias, None


@contextmanager
def join(device: str) -> Iterator[World]:
    """Yields the `World` of the processes that torchrun started together, or of this one alone; `device` without a number.

    Raises MdwError for several processes on a kind of device that has no communication backend here.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 or dist.is_initialized():
        yield World(device=device)
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    elif device != "cpu":
        raise MdwError(f"several processes train on cpu or cuda, not on {device}; choose with --device")
    with _needs_all():
        store, rank, size = next(dist.rendezvous("env://"))
        store = dist.PrefixStore(_agree(store, rank, size), store)
        dist.init_process_group("nccl" if device != "cpu" else "gloo", store=store, rank=rank, world_size=size)
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


def _agree(store: dist.Store, rank: int, size: int) -> str:
    """Returns a name that the processes of this start have in common, and no earlier start had.

    torchrun keeps its store when it restarts a job, and with it the addresses of dead processes (pytorch issues 135712 and
    167288); each node counts restarts for itself. So every other process stores a new name, and the first one answers under
    that name until all have read the answer.
    """
    name = uuid.uuid4().hex
    if rank:
        store.set(f"mdw/{rank}", name)
        name = store.get(f"mdw/answer/{name}").decode()
        store.set(f"mdw/heard/{name}/{rank}", "")
        return name
    waiting, until = set(range(1, size)), time.monotonic() + 600
    while waiting:
        for peer in sorted(waiting):
            if store.check([f"mdw/{peer}"]):
                store.set(f"mdw/answer/{store.get(f'mdw/{peer}').decode()}", name)
            if store.check([f"mdw/heard/{name}/{peer}"]):
                waiting.remove(peer)
        if time.monotonic() > until:
            raise RuntimeError(f"process {min(waiting)} did not answer within ten minutes")
        time.sleep(0.05)
    return name


@contextmanager
def _needs_all():
    """Turns the failure of a message between processes into an MdwError."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise MdwError(
            f"another process of this run has gone ({reason}); the same command goes on from the last checkpoint, and "
            "torchrun --max-restarts=N gives it by itself"
        ) from None
