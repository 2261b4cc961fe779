"""What surrounds the drawn people: rooms and fields, clutter, things in front of them, and the camera's faults."""

from math import cos, sin

import cv2
import numpy as np

from mdw.data.canvas import Camera, Canvas
from mdw.data.figure import Placed

_BITS = 4  # fixed-point bits of OpenCV's sub-pixel drawing


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.clip(np.round(np.asarray(points) * (1 << _BITS)), -(1 << 20), 1 << 20).astype(np.int32)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of walls, furniture, vegetation: greyish most of the time."""
    grey, tint = rng.uniform(25, 235), rng.standard_normal(3)
    return np.clip(grey + tint * (12 if rng.random() < 0.6 else 45), 0, 255)


def _cloud(rng: np.random.Generator, size: tuple[int, int], cells: int, colour: bool = False) -> np.ndarray:
    """Smooth noise about 128, some `cells` cells along the longer side: uint8 (h, w), or (h, w, 3) where coloured."""
    width, height = size
    n, channels = max(width, height), 3 if colour else 1
    rows, columns = max(2, cells * height // n), max(2, cells * width // n)
    grid = np.frombuffer(rng.bytes(rows * columns * channels), np.uint8).reshape(rows, columns, channels)
    return cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)


def _rgb(grey: np.ndarray) -> np.ndarray:
    return cv2.merge((grey, grey, grey))  # NumPy's broadcasting along a last axis of 3 is ten times slower


def background(rng: np.random.Generator, size: tuple[int, int], camera: Camera, floor: float) -> np.ndarray:
    """A wall or sky, a floor that agrees with the camera, texture and clutter: uint8 RGB (h, w, 3)."""
    width, height = size
    wall, ground, u = _colour(rng), _colour(rng), rng.random(10)
    ramp = np.array([wall * (0.7 + 0.55 * u[0]), wall]).clip(0, 255).astype(np.uint8)
    picture = cv2.resize(ramp[:, None], size, interpolation=cv2.INTER_LINEAR)
    if u[1] < 0.75:
        _clutter(rng, picture, int(rng.integers(2, 12)))
    if u[2] < 0.8:
        _floor(rng, picture, camera, floor, ground)
    if u[3] < 0.5:
        _clutter(rng, picture, int(rng.integers(1, 7)))
    texture = cv2.addWeighted(_cloud(rng, size, 19), 0.7 * u[4], _cloud(rng, size, 64), 0.7 * (1 - u[4]), 38)
    if u[5] < 0.12:  # a woven or ribbed texture over everything
        wave = rng.uniform(0.15, 1.2, 2) * rng.choice((-1, 1), 2)
        rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
        weave = np.sin(columns * wave[0] + rows * wave[1])
        texture = cv2.add(texture, weave * rng.uniform(10, 50), dtype=cv2.CV_8U)
    picture = cv2.addWeighted(picture, 1, _rgb(texture), 0.5 * u[6], -64 * u[6])
    picture = cv2.addWeighted(picture, 1, _cloud(rng, size, 5, colour=True), 0.27 * u[7], -34.5 * u[7])
    if u[8] < 0.3:  # out of focus
        small = (int(width / (1.5 + 3 * u[9])), int(height / (1.5 + 3 * u[9])))
        picture = cv2.resize(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), size)
    return picture


def _clutter(rng: np.random.Generator, picture: np.ndarray, count: int) -> None:
    """Boxes, bars, balls and limb-like strokes, some in the colours of skin: neither makes a person."""
    height, width = picture.shape[:2]
    for _ in range(count):
        *u, grey, red, green, blue = rng.random(12).tolist()
        tint = 110 if u[6] < 0.3 else 30
        colour = [25 + 210 * grey + tint * (c - 0.5) for c in (red, green, blue)]
        if u[7] > 0.75:
            colour = [60 + 190 * grey, 35 + 180 * grey, 22 + 170 * grey]
        x, y = u[0] * width, u[1] * height
        if u[4] < 0.4:
            a, w, h = 0.4 * (grey - 0.5), width * (0.025 + 0.25 * u[2]), height * (0.025 + 0.25 * u[3])
            c, s = cos(a), sin(a)
            corners = np.array([(-w * c + h * s, -w * s - h * c), (w * c + h * s, w * s - h * c)])
            corners = np.concatenate([corners, -corners])
            cv2.fillConvexPoly(picture, _fixed(corners + (x, y)), colour, cv2.LINE_8, _BITS)
            if u[5] < 0.4:
                frame, dark = [_fixed(corners * 0.85 + (x, y))], [0.6 * c for c in colour]
                cv2.polylines(picture, frame, True, dark, 1 + int(3 * red), cv2.LINE_8, _BITS)
        elif u[4] < 0.7:
            angle, reach = 6.283 * u[2], 20 + 120 * u[3]
            dx, dy = int(16 * reach * cos(angle)), int(16 * reach * sin(angle))
            for k in range(1 + int(2.5 * red)):
                start = (int(16 * x) + 220 * k, int(16 * y) + 50 * k)
                end, thick = (start[0] + dx, start[1] + dy), 1 + int(14 * u[5] ** 2)
                cv2.line(picture, start, end, colour, thick, cv2.LINE_8, _BITS)
        else:
            axes = (int(48 + 640 * u[2] ** 2), int(48 + 640 * u[3] ** 2))
            cv2.ellipse(picture, (int(16 * x), int(16 * y)), axes, 180 * red, 0, 360, colour, -1, cv2.LINE_8, _BITS)


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
    near = _fixed([edge[0, :2], edge[1, :2], edge[1, :2] + deep, edge[0, :2] + deep])
    cv2.fillConvexPoly(picture, near, colour.tolist(), cv2.LINE_8, _BITS)
    if rng.random() < 0.5:
        step, line = rng.uniform(0.25, 1.2), (colour * dark).tolist()
        lines = [((k * step, 0, back), (k * step, 0, 0.8 * (camera.distance - 0.3))) for k in range(-8, 9)]
        if rng.random() < 0.6:
            rows = [k * step for k in range(-8, 9) if back < k * step < 0.8 * camera.distance]
            lines += [((-20, 0, z), (20, 0, z)) for z in rows]
        points = camera.target + np.array(lines)
        points[..., 1] = floor
        seen = camera.project(points)
        ahead = seen[seen[..., 2].min(1) > 0.2][..., :2]
        cv2.polylines(picture, list(_fixed(ahead)), False, line, 1, cv2.LINE_8, _BITS)


def seat(canvas: Canvas, camera: Camera, person: Placed, floor: float, back: bool) -> None:
    """A stool, or a chair with a back, under somebody who sits. Labels 1 and 2."""
    pelvis, stature = person.position[0], person.stature
    forward = person.frame[0] @ (0, 0, 1)
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
    radii, paint = np.full((n, 2), 0.013 * stature), np.full((n, 2), 2)
    canvas.capsules(camera, np.array(legs, float), radii, paint, np.ones(n), np.zeros(n))
    canvas.ellipsoids(camera, centre[None], axes[None], np.full((1, 2), 1), np.zeros(1))


def occlude(rng: np.random.Generator, canvas: Canvas, box: np.ndarray) -> None:
    """Something flat between the camera and the main person, whose box is (x0, y0, x1, y1). Labels 3 to 5."""
    height, width = canvas.depth.shape
    (x0, y0, x1, y1), u = box, rng.random(8)
    w, h = x1 - x0, y1 - y0
    kind = rng.random()
    if kind < 0.3:  # a table, a wall, a hedge: hides the lower part
        y = y0 + h * (0.50 + 0.4 * u[0])
        left, right = (-5.0, width + 5.0) if u[1] < 0.5 else (x0 + w * (0.6 * u[2] - 0.4), x1 + w * (0.5 * u[3] - 0.1))
        tilt = 12 * (u[4] - 0.5)
        shape = [(left, y - tilt), (right, y + tilt), (right, height + 9), (left, height + 9)]
    elif kind < 0.6:  # a post, a tree, a door frame
        thick, x, lean = w * (0.06 + 0.25 * u[0]), x0 + w * u[1], 50 * (u[2] - 0.5)
        low = height + 9
        shape = [(x - thick + lean, -9), (x + thick + lean, -9), (x + thick - lean, low), (x - thick - lean, low)]
    elif kind < 0.8:  # a box, a sign, a picture frame
        a, bw, bh = 1.5 * (u[0] - 0.5), w * (0.2 + 0.3 * u[1]), h * (0.08 + 0.16 * u[2])
        corners = np.array([(-bw, -bh), (bw, -bh), (bw, bh), (-bw, bh)])
        turned = corners @ np.array([[cos(a), sin(a)], [-sin(a), cos(a)]])
        shape = turned + (x0 + w * u[3], y0 + h * (0.15 + 0.8 * u[4]))
    else:  # a ball, a bush
        angle = np.arange(14) * (2 * np.pi / 14)
        radius = min(w, h) * (0.10 + 0.15 * u[0]) * (1 + 0.25 * rng.standard_normal(14) * (u[1] < 0.5))
        outline = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        shape = outline + (x0 + w * u[2], y0 + h * (0.2 + 0.8 * u[3]))
    cv2.fillPoly(canvas.value, [_fixed(shape)], 4.0 * (3 + int(3 * u[5])) + 2 + (u[6] - 0.3), cv2.LINE_8, _BITS)
    cv2.fillPoly(canvas.depth, [_fixed(shape)], 0.05, cv2.LINE_8, _BITS)


def develop(
    rng: np.random.Generator, label: np.ndarray, shade: np.ndarray, picture: np.ndarray, palette: np.ndarray
) -> np.ndarray:
    """Colours and light over the background, then the camera's faults: uint8 RGB (h, w, 3).

    `label` and `shade` are from `Canvas.finish`, `picture` is the background (overwritten), `palette` (256, 3) uint8
    RGB by label. All steps are OpenCV's on bytes, which takes a third of the time of float32.
    """
    height, width = label.shape
    size, u = (width, height), rng.random(12)
    ambient = 0.35 + 0.3 * u[0]  # light in units of 1/128
    light = cv2.convertScaleAbs(shade, alpha=64 * (1.25 - ambient), beta=64 * (1.25 + ambient))
    folds = 0.05 + 0.12 * u[1]  # and stains
    light = cv2.addWeighted(light, 1, _cloud(rng, size, 40), folds, -128 * folds)
    cv2.copyTo(cv2.multiply(cv2.LUT(_rgb(label), palette[:, None]), _rgb(light), scale=1 / 128), label, picture)
    if u[3] < 0.25:  # light from a window, shadow of a tree
        patches = cv2.convertScaleAbs(_cloud(rng, size, 4), alpha=0.4 * u[4], beta=128 - 51 * u[4])
        picture = cv2.multiply(picture, _rgb(patches), scale=1 / 128)
    gain = (1 + 0.07 * rng.standard_normal(3)) * (0.72 + 0.5 * u[2])  # white balance, exposure, contrast
    curve = 255 * (np.linspace(0, 1, 256)[:, None] ** (0.8 + 0.4 * u[10])) * gain
    picture = cv2.LUT(picture, curve.clip(0, 255).astype(np.uint8)[:, None])
    if u[6] < 0.85:
        picture = cv2.GaussianBlur(picture, (3, 3), 0.5 + 0.4 * u[5])  # also what smooths the outlines
    else:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.9 + 0.9 * u[5])
    grain, strength = np.frombuffer(rng.bytes(width * height), np.uint8).reshape(height, width), 0.2 * u[7] ** 2
    out = cv2.addWeighted(picture, 1, _rgb(grain), strength, -127.5 * strength)  # deviation up to 15 grey levels
    if u[8] < 0.25:
        file = cv2.imencode(".jpg", out, (cv2.IMWRITE_JPEG_QUALITY, int(25 + 65 * u[9])))[1]
        out = cv2.imdecode(file, cv2.IMREAD_COLOR)
    if u[11] < 0.06:
        out = _rgb(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY))  # black and white
    return out
