"""Camera and canvas of the drawn people: capsules and ellipsoids painted into a depth, a label and a shade buffer.

Each piece is drawn as its orthographic picture at the scale of its own depth, per pixel of its bounding box; the
nearest surface wins. So joints have no seams, bodies hide themselves to the pixel, and "is this joint hidden" is one
look into the depth buffer. The loops are written for few and cheap calls: they are half of the time of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mdw.data.figure import Placed

SCENERY = 16  # labels below this are scenery; person k (0-based) owns the 16 labels from 16 * (k + 1)
_CAMERA_AXES = np.diag([1.0, -1.0, -1.0])  # world (x right, y up, z to the viewer) to camera (x right, y down, z away)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking at `target` (world, metres) from `distance` metres.

    `focal` in pixels and `shift`, the pixel of the optical axis, are those of a crop: it may lie outside the picture.
    """

    rotation: np.ndarray
    target: np.ndarray
    distance: float
    focal: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def looking(target: np.ndarray, distance: float, pitch: float, roll: float) -> "Camera":
        """A camera that looks down by `pitch` and is tilted by `roll`, radians; its focal length is 1."""
        c, s, cr, sr = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        return Camera(tilt @ _CAMERA_AXES, target, distance)

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to (..., 3): column, row in pixels and depth in metres (at least 5 cm)."""
        out = (points - self.target) @ self.rotation.T
        out[..., 2] = np.maximum(out[..., 2] + self.distance, 0.05)
        out[..., :2] *= (self.focal / out[..., 2])[..., None]
        out[..., 0] += self.shift[0]
        out[..., 1] += self.shift[1]
        return out


class Canvas:
    """A picture of size (w, h) in the making: `depth` (h, w) float32 metres, `value` (h, w) float32.

    A value is 4 * label + 2 + shade: label (0 = nothing) and shade (-1 dark to 1 lit) share a buffer because masked
    copies are the dearest step.
    """

    def __init__(self, size: tuple[int, int], light: np.ndarray):
        width, height = size
        self.depth = np.full((height, width), np.inf, np.float32)
        self.value = np.full((height, width), 2, np.float32)
        self.light = light  # unit vector to the light: right, down, to the viewer
        self._x, self._y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]

    def figures(self, people: Sequence[Placed], camera: Camera) -> None:
        """Paint people; the labels of person k start at 16 * (k + 1)."""
        capsules, ellipsoids = [], []
        for k, person in enumerate(people, 1):
            figure, stature = person.figure, person.stature
            axes = person.frame[figure.nodes] * (figure.half_axes * stature)[:, None, :]
            capsules.append(
                (
                    person.ends,
                    figure.end_radii * stature,
                    figure.capsule_paint + SCENERY * k,
                    figure.cut,
                    figure.capsule_stripe * stature,
                )
            )
            ellipsoids.append((person.centres, axes, figure.ellipsoid_paint + SCENERY * k, figure.ellipsoid_stripe * stature))
        self.capsules(camera, *map(np.concatenate, zip(*capsules, strict=True)))
        self.ellipsoids(camera, *map(np.concatenate, zip(*ellipsoids, strict=True)))

    def _worth(self, low: np.ndarray, high: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Indices of the pieces that can be seen, the nearest first, so that most of what they hide is skipped.

        Clips the boxes `low`, `high` (N, 2) to the picture, in place.
        """
        large = (high - low).max(1) > 0.8
        np.clip(low, 0, None, out=low)
        np.clip(high, None, self.depth.shape[::-1], out=high)
        order = np.argsort(depth, kind="stable")
        return order[(large & (high > low).all(1))[order]]

    def capsules(
        self, camera: Camera, ends: np.ndarray, radii: np.ndarray, paint: np.ndarray, cut: np.ndarray, stripe: np.ndarray
    ) -> None:
        """Round-ended cones: ends (N, 2, 3) and radii (N, 2) in metres, paint (N, 2) labels.

        cut (N,) and stripe (N,) are as in `Figure`, the stripe in metres.
        """
        seen = camera.project(ends)
        scale = camera.focal / seen[..., 2]
        pixels = radii * scale
        low, high = (seen[..., :2] - pixels[..., None]).min(1), (seen[..., :2] + pixels[..., None]).max(1)
        keep = self._worth(low, high, seen[..., 2].min(1))
        low, high = np.floor(low[keep]).astype(int), np.ceil(high[keep]).astype(int) + 1
        seen, pixels, paint, cut, metre = seen[keep], pixels[keep], paint[keep], cut[keep], 1 / scale[keep].mean(1)
        along = seen[:, 1] - seen[:, 0]
        along[:, 0] += (np.abs(along[:, :2]) < 1e-3).all(1) * 2e-3  # seen exactly end on, any direction will do
        length = np.hypot(along[:, 0], along[:, 1])
        direction = along[:, :2] / length[:, None]
        # seen end on, the larger ball hides the smaller: no taper where it could not be drawn
        largest = pixels.max(1, keepdims=True)
        taper = np.minimum(1, length[:, None] / (2 * np.abs(pixels[:, :1] - pixels[:, 1:]) + 1e-6))
        pixels = largest - (largest - pixels) * taper
        slope = along[:, 2] / length
        lean = slope / np.hypot(metre, slope)  # sine of the tilt away from the viewer
        light_along = direction @ self.light[:2]
        light_across = direction[:, 0] * self.light[1] - direction[:, 1] * self.light[0]
        light_up = self.light[2] * np.sqrt(1 - lean * lean) + light_along * lean
        columns = (
            seen[:, 0],
            pixels,
            direction,
            length,
            slope,
            metre,
            light_along,
            light_across,
            light_up,
            cut,
            stripe[keep] / metre,
            paint,
            np.concatenate([low, high], axis=1),
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for (ax, ay, az), (ra, rb), (ex, ey), length, slope, metre, la, lx, lu, share, period, paint, box in rows:
            (first, second), (x0, y0, x1, y1) = paint, box
            gx, gy = self._x[x0:x1] - ax, self._y[y0:y1] - ay
            s = gx * ex + gy * ey  # along the axis
            w = gy * ex - gx * ey  # across it
            c = np.minimum(np.maximum(s, 0), length)
            r = c * ((rb - ra) / length)
            r += ra
            d = s - c  # beyond the ends
            high2 = r * r
            high2 -= w * w
            high2 -= d * d
            h = np.sqrt(high2)  # nan outside, and a nan is never nearer
            z = cv2.addWeighted(c, slope, h, -metre, az)
            depth = self.depth[y0:y1, x0:x1]
            mask = (z < depth).view(np.uint8)
            if not cv2.countNonZero(mask):
                continue
            # the normal over the larger radius instead of r: a little flat at the thin end, but no division per pixel
            code, flat = 4 * first + 2, 1 / max(ra, rb)
            value = cv2.scaleAdd(h, lu * flat, cv2.addWeighted(w, lx * flat, d, la * flat, code))
            if share < 1:
                value += _pick(s < share * length, first, second)
            elif period > 1.5:
                value += _pick(np.remainder(s, period) < 0.5 * period, first, second)
            cv2.copyTo(z, mask, depth)
            cv2.copyTo(value, mask, self.value[y0:y1, x0:x1])

    def ellipsoids(self, camera: Camera, centres: np.ndarray, axes: np.ndarray, paint: np.ndarray, stripe: np.ndarray) -> None:
        """Centres (N, 3) and half-axes, the columns of axes (N, 3, 3), in metres; paint (N, 2) labels, stripe (N,)."""
        seen = camera.project(centres)
        scale = camera.focal / seen[:, 2]
        local = np.matmul(camera.rotation, axes) * scale[:, None, None]  # columns: half-axes in pixels
        half = np.sqrt((local * local).sum(2))  # half-extents
        c = np.matmul(local, local.transpose(0, 2, 1))
        det = np.maximum(c[:, 0, 0] * c[:, 1, 1] - c[:, 0, 1] ** 2, 1e-9)
        q00, q11, q01 = c[:, 1, 1] / det, c[:, 0, 0] / det, -c[:, 0, 1] / det  # inverse of the outline's 2 x 2 form
        g0, g1 = c[:, 2, 0] * q00 + c[:, 2, 1] * q01, c[:, 2, 0] * q01 + c[:, 2, 1] * q11
        thick = np.sqrt(np.maximum(c[:, 2, 2] - c[:, 2, 0] * g0 - c[:, 2, 1] * g1, 0))
        size = np.sqrt((local * local).sum(1))  # (N, 3) lengths of the half-axes
        # a point v of the surface is sum u_k * axis_k with |u| = 1; its normal is taken as sum u_k * axis_k / |axis_k|
        direction = local / size[:, None, :]
        light = np.array([self.light[0], self.light[1], -self.light[2]])
        shine = np.einsum("nik,nk->ni", direction, (light @ direction) / size)
        up = direction[:, :, 1]
        low, high = seen[:, :2] - half[:, :2], seen[:, :2] + half[:, :2]
        keep = self._worth(low, high, seen[:, 2])
        box = np.concatenate([np.floor(low).astype(int), np.ceil(high).astype(int) + 1], axis=1)
        columns = (seen, q00, q11, q01, g0, g1, thick, 1 / scale, shine, up, stripe * scale, paint, box)
        rows = zip(*(column[keep].tolist() for column in columns), strict=True)
        for (cx, cy, cz), a, b, ab, tx, ty, k, metre, (sx, sy, sz), (ux, uy, uz), period, paint, box in rows:
            (first, second), (x0, y0, x1, y1) = paint, box
            gx, gy = self._x[x0:x1] - cx, self._y[y0:y1] - cy
            high2 = (1 - a * gx * gx) - b * gy * gy
            high2 -= gx * (2 * ab * gy)
            h = np.sqrt(high2)  # nan outside
            z = cv2.addWeighted(gx * tx + gy * ty, metre, h, -k * metre, cz)
            depth = self.depth[y0:y1, x0:x1]
            mask = (z < depth).view(np.uint8)
            if not cv2.countNonZero(mask):
                continue
            value = cv2.scaleAdd(h, -k * sz, (gx * (sx + sz * tx) + (4 * first + 2)) + gy * (sy + sz * ty))
            if period > 1.5:
                t = cv2.scaleAdd(h, -k * uz, gx * (ux + uz * tx) + gy * (uy + uz * ty))
                value += _pick(np.remainder(t, period) < 0.5 * period, first, second)
            cv2.copyTo(z, mask, depth)
            cv2.copyTo(value, mask, self.value[y0:y1, x0:x1])

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels (h, w) uint8, 0 where nothing was painted, and shade (h, w) float32, -1 dark to 1 lit."""
        label = np.floor(self.value * np.float32(0.25))
        return label.astype(np.uint8), self.value - (label * 4 + 2)


def _pick(inside: np.ndarray, first: int, second: int) -> np.ndarray:
    """What to add to values of the label `first`, so that only those inside keep it and the others get `second`."""
    return np.where(inside, np.float32(0), np.float32(4 * (second - first)))
