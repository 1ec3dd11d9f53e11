"""Solutions of notebook 11's exercises."""

from __future__ import annotations

import numpy as np


def drag_sorted(drag, size):
    (x1, x2), (y1, y2) = sorted(drag[0::2]), sorted(drag[1::2])
    height, width = size
    return max(0, x1 / width), max(0, y1 / height), min(1, x2 / width), min(1, y2 / height)


def drag_arrays(drag, size):
    corners = np.clip(np.reshape(drag, (2, 2)) / np.array(size)[::-1], 0, 1)
    return np.concatenate([corners.min(0), corners.max(0)])


def drag_swapping(drag, size):
    x1, y1, x2, y2 = drag
    if x2 < x1:
        x1, x2 = x2, x1
    if y2 < y1:
        y1, y2 = y2, y1
    box = [x1 / size[1], y1 / size[0], x2 / size[1], y2 / size[0]]
    return [0 if v < 0 else 1 if v > 1 else v for v in box]


def drag_as_it_comes(drag, size):
    return np.clip(np.array(drag) / (size[1], size[0], size[1], size[0]), 0, 1)


def drag_uncut(drag, size):
    corners = np.reshape(drag, (2, 2)) / np.array(size)[::-1]
    return [*corners.min(0), *corners.max(0)]


def drag_exchanged(drag, size):
    return drag_arrays(drag, size[::-1])


def drag_pixels(drag, size):
    corners = np.reshape(drag, (2, 2))
    return [*corners.min(0), *corners.max(0)]


def drag_width(drag, size):
    x1, y1, x2, y2 = drag_sorted(drag, size)
    return x1, y1, x2 - x1, y2 - y1


def drag_raw(drag, size):
    return [v / s for v, s in zip(drag, (size[1], size[0]) * 2, strict=True)]


def drag_nothing(drag, size):
    drag_sorted(drag, size)


def click_loop(boxes, x, y):
    best = None
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        if x1 <= x <= x2 and y1 <= y <= y2:
            area = (x2 - x1) * (y2 - y1)
            if best is None or area < best[0]:
                best = area, i
    return best and best[1]


def click_sorted(boxes, x, y):
    by_area = sorted(range(len(boxes)), key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]))
    return next((i for i in by_area if boxes[i][0] < x < boxes[i][2] and boxes[i][1] < y < boxes[i][3]), None)


def click_arrays(boxes, x, y):
    if not len(boxes):
        return None
    x1, y1, x2, y2 = np.array(boxes).T
    areas = np.where((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2), (x2 - x1) * (y2 - y1), np.inf)
    return int(areas.argmin()) if np.isfinite(areas).any() else None


def click_first(boxes, x, y):
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        if x1 <= x <= x2 and y1 <= y <= y2:
            return i


def click_last(boxes, x, y):
    found = None
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        if x1 <= x <= x2 and y1 <= y <= y2:
            found = i
    return found


def click_largest(boxes, x, y):
    inside = [i for i, b in enumerate(boxes) if b[0] <= x <= b[2] and b[1] <= y <= b[3]]
    return max(inside, key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]), default=None)


def click_nearest(boxes, x, y):
    middles = [abs((b[0] + b[2]) / 2 - x) + abs((b[1] + b[3]) / 2 - y) for b in boxes]
    return int(np.argmin(middles)) if middles else None


def click_smallest(boxes, x, y):
    return int(np.argmin([(b[2] - b[0]) * (b[3] - b[1]) for b in boxes])) if boxes else None


def click_zero(boxes, x, y):
    return click_loop(boxes, x, y) or 0


def click_minus_one(boxes, x, y):
    found = click_loop(boxes, x, y)
    return -1 if found is None else found


def click_by_side(boxes, x, y):
    inside = [i for i, b in enumerate(boxes) if b[0] <= x <= b[2]]
    return min(inside, key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]), default=None)


RIGHT = {
    "check_dragged_box": [drag_sorted, drag_arrays, drag_swapping],
    "check_clicked": [click_loop, click_sorted, click_arrays],
}
WRONG = {
    "check_dragged_box": [
        (drag_as_it_comes, "order of the mouse"),
        (drag_uncut, "leaves the picture"),
        (drag_exchanged, "size is (height, width)"),
        (drag_pixels, "in pixels"),
        (drag_width, "width and height in the place"),
        (drag_raw, "neither turns"),
        (drag_nothing, "return statement"),
    ],
    "check_clicked": [
        (click_first, "the first box"),
        (click_last, "the last box"),
        (click_largest, "the largest box"),
        (click_nearest, "nearest middle"),
        (click_smallest, "wherever the point is"),
        (click_zero, "return 0"),
        (click_minus_one, "return -1"),
        (click_by_side, "you look at x alone"),
    ],
}
