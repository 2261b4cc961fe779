"""The evaluation protocol of pose estimation, exact to the last digit: joints, boxes, crops, heatmaps, OKS, metrics."""

from mdw.pose import affine, boxes, heatmap, joints, metrics, oks

__all__ = ["affine", "boxes", "heatmap", "joints", "metrics", "oks"]
