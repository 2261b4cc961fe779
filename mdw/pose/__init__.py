"""The field's protocol, to the last digit, in NumPy and OpenCV: joints, boxes, crops, heatmaps, OKS, metrics."""

from mdw.pose import affine, boxes, heatmap, joints, metrics, oks

__all__ = ["affine", "boxes", "heatmap", "joints", "metrics", "oks"]
