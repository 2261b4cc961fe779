"""Camera and canvas of the drawn people: capsules and ellipsoids painted into a depth, a label and a shade buffer.

Each piece is drawn as its orthographic picture at the scale of its own depth, per pixel in its bounding box, nearest surface wins.
So joints have no seams, self-occlusion is exact to the pixel, and "is this joint hidden" is one look into the depth buffer.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mdw.data.figure import Figure

SCENERY = 16            # labels below this are scenery; person k (0-based) owns the 16 labels from 16 * (k + 1)
MAX_PEOPLE = 14
_CAMERA_AXES = np.diag([1.0, -1.0, -1.0])      # world (x right, y up, z to the viewer) to camera (x right, y down, z away)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking at `target` (world, metres) from `distance`; `pitch` looks down, `roll` tilts, in radians.

    `focal` in pixels and `shift` (2,), the pixel of the optical axis, are those of a crop: the axis may lie outside the picture.
    """

    rotation: np.ndarray
    target: np.ndarray
    distance: float
    focal: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def looking(target: np.ndarray, distance: float, pitch: float, roll: float) -> "Camera":
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
    """A picture of size (w, h) in the making: `depth` (h, w) float32 metres and `value` (h, w) float32 = 4 * label + 2 + shade.

    Label and shade share a buffer because masked copies are the dearest step of painting.
    """

    def __init__(self, size: tuple[int, int], light: np.ndarray):
        width, height = size
        self.depth = np.full((height, width), np.inf, np.float32)
        self.value = np.full((height, width), 2, np.float32)
        self.light = light                                       # unit vector to the light: right, down, to the viewer
        self._x, self._y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]

    def figure(self, figure: Figure, position: np.ndarray, frame: np.ndarray, stature: float, camera: Camera, base: int) -> None:
        """Paint a person; its materials get the labels from `base` on."""
        ends, centres = figure.place(position, frame, stature)
        self.capsules(camera, ends, figure.end_radii * stature, figure.capsule_paint + base, figure.cut, figure.capsule_stripe * stature)
        axes = frame[figure.nodes] * (figure.half_axes * stature)[:, None, :]
        self.ellipsoids(camera, centres, axes, figure.ellipsoid_paint + base, figure.ellipsoid_stripe * stature)

    def capsules(self, camera: Camera, ends: np.ndarray, radii: np.ndarray, paint: np.ndarray, cut: np.ndarray, stripe: np.ndarray) -> None:
        """Round-ended cones: ends (N, 2, 3) world metres, radii (N, 2) metres, paint (N, 2) labels (see `Figure`)."""
        seen = camera.project(ends)
        scale = camera.focal / seen[..., 2]
        pixels = radii * scale
        low = np.floor((seen[..., :2] - pixels[..., None]).min(1)).astype(int)
        high = np.ceil((seen[..., :2] + pixels[..., None]).max(1)).astype(int) + 1
        along = seen[:, 1] - seen[:, 0]
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-3)
        direction = along[:, :2] / length[:, None]
        mean_scale = scale.mean(1)
        lean = along[:, 2] * mean_scale / np.hypot(length, along[:, 2] * mean_scale)       # sine of the tilt away from the viewer
        light_along = direction @ self.light[:2]
        light_across = direction[:, 0] * self.light[1] - direction[:, 1] * self.light[0]
        light_up = self.light[2] * np.sqrt(1 - lean * lean) + light_along * lean
        rows = zip(seen[:, 0].tolist(), pixels.tolist(), direction.tolist(), length.tolist(), (along[:, 2] / length).tolist(),
                   (1 / mean_scale).tolist(), light_along.tolist(), light_across.tolist(), light_up.tolist(), cut.tolist(),
                   (stripe * mean_scale).tolist(), paint.tolist(), low.tolist(), high.tolist(), strict=True)
        height, width = self.depth.shape
        for (ax, ay, az), (ra, rb), (ex, ey), l, slope, metre, la, lx, lu, share, period, (first, second), (x0, y0), (x1, y1) in rows:
            x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
            if x0 >= x1 or y0 >= y1:
                continue
            gx, gy = self._x[x0:x1] - ax, self._y[y0:y1] - ay
            s = gx * ex + gy * ey                                # along the axis
            w = gy * ex - gx * ey                                # across it
            c = np.minimum(np.maximum(s, 0), l)
            r = c * ((rb - ra) / l)
            r += ra
            d = s - c                                            # beyond the ends
            high2 = r * r
            high2 -= w * w
            high2 -= d * d
            h = np.sqrt(high2)                                   # nan outside, and a nan is never nearer
            z = cv2.addWeighted(c, slope, h, -metre, az)
            depth = self.depth[y0:y1, x0:x1]
            mask = (z < depth).view(np.uint8)
            if not cv2.countNonZero(mask):
                continue
            value = cv2.scaleAdd(h, lu, cv2.addWeighted(w, lx, d, la, 0))
            value /= r
            if share < 1:
                value += np.where(s < share * l, _code(first), _code(second))
            elif period > 1.5:
                value += np.where(np.remainder(s, period) < 0.5 * period, _code(first), _code(second))
            else:
                value += _code(first)
            cv2.copyTo(z, mask, depth)
            cv2.copyTo(value, mask, self.value[y0:y1, x0:x1])

    def ellipsoids(self, camera: Camera, centres: np.ndarray, axes: np.ndarray, paint: np.ndarray, stripe: np.ndarray) -> None:
        """Centres (N, 3) world metres; axes (N, 3, 3): columns are the half-axes in world metres; paint (N, 2) labels."""
        seen = camera.project(centres)
        scale = camera.focal / seen[:, 2]
        local = np.matmul(camera.rotation, axes) * scale[:, None, None]          # columns: half-axes in pixels
        half = np.sqrt((local * local).sum(2))                                   # half-extents
        c = np.matmul(local, local.transpose(0, 2, 1))
        det = np.maximum(c[:, 0, 0] * c[:, 1, 1] - c[:, 0, 1] ** 2, 1e-9)
        q00, q11, q01 = c[:, 1, 1] / det, c[:, 0, 0] / det, -c[:, 0, 1] / det    # inverse of the outline's 2 x 2 form
        g0, g1 = c[:, 2, 0] * q00 + c[:, 2, 1] * q01, c[:, 2, 0] * q01 + c[:, 2, 1] * q11
        thick = np.sqrt(np.maximum(c[:, 2, 2] - c[:, 2, 0] * g0 - c[:, 2, 1] * g1, 0))
        size = np.sqrt((local * local).sum(1))                                   # (N, 3) lengths of the half-axes
        # a point v of the surface is sum u_k * axis_k with |u| = 1; its normal is taken as sum u_k * axis_k / |axis_k|
        direction = local / size[:, None, :]
        light = np.array([self.light[0], self.light[1], -self.light[2]])
        shine = np.einsum("nik,nk->ni", direction, (light @ direction) / size)
        up = direction[:, :, 1]
        low = np.floor(seen[:, :2] - half[:, :2]).astype(int)
        high = np.ceil(seen[:, :2] + half[:, :2]).astype(int) + 1
        rows = zip(seen.tolist(), q00.tolist(), q11.tolist(), q01.tolist(), g0.tolist(), g1.tolist(), thick.tolist(), (1 / scale).tolist(),
                   shine.tolist(), up.tolist(), (stripe * scale).tolist(), paint.tolist(), low.tolist(), high.tolist(), strict=True)
        height, width = self.depth.shape
        for (cx, cy, cz), a, b, ab, tx, ty, k, metre, (sx, sy, sz), (ux, uy, uz), period, (first, second), (x0, y0), (x1, y1) in rows:
            x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
            if x0 >= x1 or y0 >= y1:
                continue
            gx, gy = self._x[x0:x1] - cx, self._y[y0:y1] - cy
            high2 = (1 - a * gx * gx) - b * gy * gy
            high2 -= gx * (2 * ab * gy)
            h = np.sqrt(high2)                                   # nan outside
            z = cv2.addWeighted(gx * tx + gy * ty, metre, h, -k * metre, cz)
            depth = self.depth[y0:y1, x0:x1]
            mask = (z < depth).view(np.uint8)
            if not cv2.countNonZero(mask):
                continue
            value = cv2.scaleAdd(h, -k * sz, gx * (sx + sz * tx) + gy * (sy + sz * ty))
            if period > 1.5:
                t = cv2.scaleAdd(h, -k * uz, gx * (ux + uz * tx) + gy * (uy + uz * ty))
                value += np.where(np.remainder(t, period) < 0.5 * period, _code(first), _code(second))
            else:
                value += _code(first)
            cv2.copyTo(z, mask, depth)
            cv2.copyTo(value, mask, self.value[y0:y1, x0:x1])

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels (h, w) uint8, 0 where nothing was painted, and shade (h, w) float32, -1 dark to 1 lit."""
        label = np.floor(self.value * np.float32(0.25))
        return label.astype(np.uint8), self.value - (label * 4 + 2)


def _code(label: int) -> np.float32:
    return np.float32(4 * label + 2)
