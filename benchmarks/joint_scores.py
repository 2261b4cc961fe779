"""`python benchmarks/joint_scores.py --root LSPET`: what a joint's score is worth, from people the shipped network never saw.

Prints, for a network on LSPET's split val with the flip test: in each band of scores how many joints there are and how many of
them are right (PCK@0.2), and the score at which a joint is right half of the time; then the same for a person's mean score.
The half is where isotonic regression of right (1) and wrong (0) on the score, the best rising steps, crosses 0.5.
`mdw.inference.draw.SURE` has the joints' figure.
"""

import argparse
import json

import numpy as np
from scipy.optimize import isotonic_regression

from mdw.data import load
from mdw.inference.evaluate import predict_dataset
from mdw.models.weights import load_network
from mdw.pose.metrics import pck_hits

EDGES = (-np.inf, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, np.inf)


def table(scores: np.ndarray, right: np.ndarray) -> dict:
    """scores, right (n,) -> bands of scores with their counts and shares of right, and the score where right reaches a half."""
    order = np.argsort(scores, kind="stable")
    fitted = isotonic_regression(right[order].astype(float)).x
    above = np.flatnonzero(fitted >= 0.5)
    band = np.digitize(scores, EDGES) - 1
    rows = {f"{low:g} to {high:g}": right[band == k] for k, (low, high) in enumerate(zip(EDGES, EDGES[1:], strict=False))}
    return {
        "half": round(float(scores[order][above[0]]), 3) if len(above) else None,
        "bands": {name: [len(hits), round(float(hits.mean()), 3)] for name, hits in rows.items() if len(hits)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", required=True, help="LSPET's folder")
    parser.add_argument("--weights", help="as for `mdw predict`; MDW-HRNet-18's if left out")
    options = parser.parse_args()
    model, joints, size = load_network(options.weights)
    people = load("lspet", "val", options.root, size[0] / size[1])
    xy, scores = predict_dataset(model, people, size)
    truth, visible = np.stack([s.joints for s in people]), np.stack([s.visible for s in people])
    right, counted, _ = pck_hits(xy, truth, visible, joints=joints)
    kept = counted.any(axis=1)
    shares = right[kept].sum(axis=1) / counted[kept].sum(axis=1)
    found = {"persons": int(kept.sum()), "joints": table(scores[counted], right[counted])}
    found["people"] = table(scores[kept].mean(axis=1), shares)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
