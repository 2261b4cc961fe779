"""What surrounds the drawn people: rooms and fields, clutter, things in front of them, and the camera's faults."""

import cv2
import numpy as np

from mdw.data.canvas import Camera, Canvas

_BITS = 4                                       # fixed-point bits of OpenCV's sub-pixel drawing


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.clip(np.round(np.asarray(points) * (1 << _BITS)), -(1 << 20), 1 << 20).astype(np.int32)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of walls, furniture, vegetation: greyish most of the time."""
    grey, tint = rng.uniform(25, 235), rng.standard_normal(3)
    return np.clip(grey + tint * (12 if rng.random() < 0.6 else 45), 0, 255)


def cloud(rng: np.random.Generator, size: tuple[int, int], cells: int, strength: float, colour: bool = False) -> np.ndarray:
    """Smooth noise in -strength..strength, about `cells` cells along the longer side: float32 (h, w), or (h, w, 3) where coloured."""
    width, height = size
    n = max(width, height)
    shape = (max(2, cells * height // n), max(2, cells * width // n)) + (3,) * colour
    return cv2.resize((rng.random(shape, np.float32) * 2 - 1) * np.float32(strength), size, interpolation=cv2.INTER_LINEAR)


def _rgb(grey: np.ndarray) -> np.ndarray:
    return cv2.merge((grey, grey, grey))        # NumPy's broadcasting along a last axis of 3 is ten times slower


def background(rng: np.random.Generator, size: tuple[int, int], camera: Camera, floor: float) -> np.ndarray:
    """A wall or sky, a floor that agrees with the camera, texture and clutter: float32 RGB (h, w, 3), 0..255, not clipped."""
    width, height = size
    wall, ground = _colour(rng), _colour(rng)
    top = wall * rng.uniform(0.7, 1.25)
    picture = cv2.resize(np.array([top, wall], np.float32)[:, None], size, interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.75:
        _clutter(rng, picture, int(rng.integers(2, 12)))
    if rng.random() < 0.8:
        _floor(rng, picture, camera, floor, ground)
    if rng.random() < 0.5:
        _clutter(rng, picture, int(rng.integers(1, 7)))
    grey = cloud(rng, size, 19, rng.uniform(0, 30)) + cloud(rng, size, 64, rng.uniform(0, 30))
    if rng.random() < 0.12:                                       # a woven or ribbed texture over everything
        wave = rng.uniform(0.15, 1.2, 2) * rng.choice((-1, 1), 2)
        grey += (rng.uniform(5, 22) * np.sin(np.arange(width) * wave[0] + np.arange(height)[:, None] * wave[1])).astype(np.float32)
    picture += _rgb(grey)
    picture += cloud(rng, size, 5, rng.uniform(0, 34), colour=True)
    if rng.random() < 0.3:                                        # out of focus
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 3))
    return picture


def _clutter(rng: np.random.Generator, picture: np.ndarray, count: int) -> None:
    """Boxes, bars, balls and limb-like strokes, some in the colours of skin, so that colour or a lone limb is no person."""
    height, width = picture.shape[:2]
    for _ in range(count):
        kind, u = rng.random(), rng.random(8)
        colour = (_colour(rng) if u[7] < 0.75 else np.array((60, 35, 22)) + u[6] * np.array((190, 180, 170))).tolist()
        x, y = u[0] * width, u[1] * height
        if kind < 0.4:
            w, h, a = width * (0.05 + 0.5 * u[2]), height * (0.05 + 0.5 * u[3]), 0.4 * (u[4] - 0.5)
            corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2 @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
            cv2.fillConvexPoly(picture, _fixed(corners + (x, y)), colour, cv2.LINE_8, _BITS)
            if u[5] < 0.4:
                cv2.polylines(picture, [_fixed(corners * 0.85 + (x, y))], True, [0.6 * c for c in colour], 1 + int(3 * u[6]), cv2.LINE_8, _BITS)
        elif kind < 0.7:
            angle, reach = 6.283 * u[2], 20 + 120 * u[3]
            end = (x + reach * np.cos(angle), y + reach * np.sin(angle))
            for k in range(1 + int(2.5 * u[4])):
                cv2.line(picture, tuple(_fixed((x + 14 * k, y + 3 * k)).tolist()), tuple(_fixed((end[0] + 14 * k, end[1] + 3 * k)).tolist()),
                         colour, 1 + int(14 * u[5] ** 2), cv2.LINE_8, _BITS)
        else:
            axes = tuple(_fixed((3 + 40 * u[2] ** 2, 3 + 40 * u[3] ** 2)).tolist())
            cv2.ellipse(picture, tuple(_fixed((x, y)).tolist()), axes, 180 * u[4], 0, 360, colour, -1, cv2.LINE_8, _BITS)


def _floor(rng: np.random.Generator, picture: np.ndarray, camera: Camera, floor: float, colour: np.ndarray) -> None:
    """The plane y = floor up to a wall behind, with tiles or planks now and then."""
    back, dark = -rng.uniform(1, 12), rng.uniform(0.6, 1.1)
    corners = camera.target + np.array([(-30, 0, back), (30, 0, back)])
    corners[:, 1] = floor
    edge = camera.project(corners)
    if edge[:, 2].min() < 0.2:
        return
    down = camera.rotation @ (0, -1, 0)
    deep = 4000 * down[:2] / max(np.hypot(*down[:2]), 1e-6)
    cv2.fillConvexPoly(picture, _fixed([edge[0, :2], edge[1, :2], edge[1, :2] + deep, edge[0, :2] + deep]), colour.tolist(), cv2.LINE_8, _BITS)
    if rng.random() < 0.5:
        step, line = rng.uniform(0.25, 1.2), (colour * dark).tolist()
        across = rng.random() < 0.6
        front = 0.8 * (camera.distance - 0.3)
        for k in range(-8, 9):
            ends = [((k * step), 0, back), ((k * step), 0, front)]
            if across and back < k * step < front:
                ends += [(-20, 0, k * step), (20, 0, k * step)]
            points = camera.target + np.array(ends)
            points[:, 1] = floor
            seen = camera.project(points)
            for a, b in zip(seen[::2], seen[1::2], strict=True):
                if min(a[2], b[2]) > 0.2:
                    cv2.line(picture, tuple(_fixed(a[:2]).tolist()), tuple(_fixed(b[:2]).tolist()), line, 1, cv2.LINE_8, _BITS)


def seat(canvas: Canvas, camera: Camera, pelvis: np.ndarray, frame: np.ndarray, floor: float, stature: float, back: bool) -> None:
    """A stool, or a chair with a back, under somebody who sits. Labels 1 and 2."""
    forward = frame @ (0, 0, 1)
    forward[1] = 0
    forward /= max(np.linalg.norm(forward), 1e-6)
    side = np.cross((0, 1, 0), forward)
    centre = pelvis + (0, -0.115 * stature, 0) + forward * 0.08 * stature
    axes = np.stack([side * 0.14, np.array((0, 0.022, 0)), forward * 0.15], axis=1) * stature
    legs = []
    for a in (-0.10, 0.10):
        for b in (-0.10, 0.10):
            top = centre + (side * a + forward * b) * stature
            legs.append((top, (top[0], floor, top[2])))
    if back:
        for a in (-0.11, 0.11):
            low = centre + (side * a - forward * 0.14) * stature
            legs.append((low, low + (0, 0.30 * stature, 0)))
        for y in (0.17, 0.23, 0.30):
            low = centre + (0, y * stature, 0) - forward * 0.14 * stature
            legs.append((low - side * 0.11 * stature, low + side * 0.11 * stature))
    n = len(legs)
    canvas.capsules(camera, np.array(legs, float), np.full((n, 2), 0.013 * stature), np.full((n, 2), 2), np.ones(n), np.zeros(n))
    canvas.ellipsoids(camera, centre[None], axes[None], np.full((1, 2), 1), np.zeros(1))


def occlude(rng: np.random.Generator, canvas: Canvas, box: np.ndarray) -> None:
    """Something flat between the camera and the main person, whose box is (x0, y0, x1, y1). Labels 3 to 5."""
    height, width = canvas.label.shape
    (x0, y0, x1, y1), u = box, rng.random(8)
    w, h = x1 - x0, y1 - y0
    kind = rng.random()
    if kind < 0.3:                                                # a table, a wall, a hedge: hides the lower part
        y = y0 + h * (0.50 + 0.4 * u[0])
        left, right = (-5.0, width + 5.0) if u[1] < 0.5 else (x0 + w * (0.6 * u[2] - 0.4), x1 + w * (0.5 * u[3] - 0.1))
        tilt = 12 * (u[4] - 0.5)
        shape = [(left, y - tilt), (right, y + tilt), (right, height + 9), (left, height + 9)]
    elif kind < 0.6:                                              # a post, a tree, a door frame
        thick, x, lean = w * (0.06 + 0.25 * u[0]), x0 + w * u[1], 50 * (u[2] - 0.5)
        shape = [(x - thick + lean, -9), (x + thick + lean, -9), (x + thick - lean, height + 9), (x - thick - lean, height + 9)]
    elif kind < 0.8:                                              # a box, a sign, a picture frame
        a, bw, bh = 1.5 * (u[0] - 0.5), w * (0.2 + 0.3 * u[1]), h * (0.08 + 0.16 * u[2])
        corners = np.array([(-bw, -bh), (bw, -bh), (bw, bh), (-bw, bh)]) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        shape = corners + (x0 + w * u[3], y0 + h * (0.15 + 0.8 * u[4]))
    else:                                                         # a ball, a bush
        angle = np.arange(14) * (2 * np.pi / 14)
        radius = min(w, h) * (0.10 + 0.15 * u[0]) * (1 + 0.25 * rng.standard_normal(14) * (u[1] < 0.5))
        shape = np.stack([x0 + w * u[2] + radius * np.cos(angle), y0 + h * (0.2 + 0.8 * u[3]) + radius * np.sin(angle)], axis=1)
    mask = np.zeros_like(canvas.label)
    cv2.fillPoly(mask, [_fixed(shape)], 1, cv2.LINE_8, _BITS)
    hit = mask > 0
    np.copyto(canvas.label, np.uint8(3 + int(3 * u[5])), where=hit)
    np.copyto(canvas.depth, np.float32(0.05), where=hit)
    np.copyto(canvas.shade, np.float32(u[6] - 0.3), where=hit)


def develop(rng: np.random.Generator, canvas: Canvas, picture: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Colours and light over the background, then the camera's faults: float32 background in, uint8 RGB (h, w, 3) out.

    `palette` (256, 3) uint8 RGB by label.
    """
    height, width = canvas.label.shape
    size, u = (width, height), rng.random(10)
    ambient = 0.35 + 0.3 * u[0]
    light = canvas.shade * np.float32(0.5 * (1.25 - ambient))
    light += np.float32(0.5 * (1.25 + ambient))
    light += cloud(rng, size, 40, 0.03 + 0.10 * u[1])                                   # folds and stains
    people = cv2.LUT(_rgb(canvas.label), palette[:, None])
    cv2.copyTo(cv2.multiply(people, _rgb(light), dtype=cv2.CV_32F), canvas.label, picture)
    cast = (1 + 0.07 * rng.standard_normal(3)) * (0.72 + 0.5 * u[2])                    # white balance and exposure
    picture.reshape(height, -1)[:] *= np.tile(cast.astype(np.float32), width)
    if u[3] < 0.25:                                                                     # light from a window, shadow of a tree
        picture *= _rgb(1 + cloud(rng, size, 4, 0.35 * u[4]))
    out = cv2.convertScaleAbs(np.maximum(picture, 0))
    out = cv2.GaussianBlur(out, (0, 0), 0.5 + (0.3 * u[5] if u[6] < 0.85 else 1.4 * u[5]))
    grain = np.frombuffer(rng.bytes(2 * width * height), np.uint8).reshape(2, height, width)
    noise = (grain[0].astype(np.float32) - grain[1]) * np.float32(14 * u[7] ** 2 / 104)   # triangular, deviation up to 14 grey levels
    out = cv2.add(out, _rgb(noise), dtype=cv2.CV_8U)
    if u[8] < 0.25:
        out = cv2.imdecode(cv2.imencode(".jpg", out, (cv2.IMWRITE_JPEG_QUALITY, int(25 + 65 * u[9])))[1], cv2.IMREAD_COLOR)
    if rng.random() < 0.06:
        out = _rgb(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY))                               # black and white
    return out
