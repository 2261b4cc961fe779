"""The field's protocol, to the last digit, in NumPy and OpenCV: joints, boxes, crops, heat maps, OKS, metrics."""

from mdw.pose import affine, boxes, heatmap, joints, metrics, oks

__all__ = ["affine", "boxes", "heatmap", "joints", "metrics", "oks"]
