#!/usr/bin/env python3
"""Scores how well identities are kept with TrackEval.

    python identity_scores.py SEQUENCES ANSWER

SEQUENCES is a JSON list of sequences, each a list of frames: the ids of its `truths` and `tracks`, and their
`similarity`, (truths, tracks). ANSWER gets, as JSON, the fields of TrackEval's metrics by sequence and `combined`.
Needs trackeval, of which the metrics alone are used, with numpy and scipy.
"""
import json
import pathlib
import sys

import numpy as np
from trackeval import metrics


def numbered(frames, key):
    """The ids of every frame as numbers from 0 on, and how many there are."""
    ids = sorted({i for frame in frames for i in frame[key]})
    numbers = {i: n for n, i in enumerate(ids)}
    return [np.array([numbers[i] for i in frame[key]], int) for frame in frames], len(ids)


def data(frames):
    (gt_ids, num_gt_ids), (tracker_ids, num_tracker_ids) = numbered(frames, "truths"), numbered(frames, "tracks")
    similarity = [np.array(frame["similarity"], float).reshape(len(frame["truths"]), len(frame["tracks"]))
                  for frame in frames]
    return {
        "gt_ids": gt_ids, "num_gt_ids": num_gt_ids, "num_gt_dets": sum(map(len, gt_ids)),
        "tracker_ids": tracker_ids, "num_tracker_ids": num_tracker_ids, "num_tracker_dets": sum(map(len, tracker_ids)),
        "similarity_scores": similarity, "num_timesteps": len(frames),
    }


sequences = {str(n): data(frames) for n, frames in enumerate(json.loads(pathlib.Path(sys.argv[1]).read_text()))}
quiet = {"PRINT_CONFIG": False}
measures = [metrics.HOTA(), metrics.Identity(quiet), metrics.CLEAR(quiet)]
found = [{name: measure.eval_sequence(sequence) for name, sequence in sequences.items()} for measure in measures]
answer = {name: {} for name in [*sequences, "combined"]}
for measure, scores in zip(measures, found):
    for name, fields in [*scores.items(), ("combined", measure.combine_sequences(scores))]:
        answer[name] |= {field: np.asarray(value).tolist() for field, value in fields.items()}
pathlib.Path(sys.argv[2]).write_text(json.dumps(answer))
