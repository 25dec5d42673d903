"""How much each piece of evidence counts. Learned by `scripts/bench learn-ranking`, not chosen by hand.

Learned 2026-11-27 on the tuning halves alone: 611 questions of 31 repositories (files) and 1,739 of 8 (lines, at .4 of
their weight), synthetic vectors. On repositories left out of the learning (four folds) NDCG@10 of files is .867, with
these weights on all of the tuning half .874.
"""

import numpy as np

from codechunk.search.evidence import NAMES

WEIGHTS = {
    "words": 0.347,
    "meaning": 0.207,
    "words and meaning": -0.056,
    "words covered": 0.052,
    "covered by symbol": 0.076,
    "covered by last name": 0.111,
    "last name asked for": 0.059,
    "last name covers and is asked for": -0.078,
    "covered by comments": -0.262,
    "defines a name of the sentence": 0.076,
    "type named by a word": -0.068,
    "is a type": -0.094,
    "is a block": -0.093,
    "is a section": -0.471,
    "two words are its name": 0.053,
    "length": 0.182,
    "covered by file name": 0.024,
    "file name asked for": 0.239,
    "whole file name asked for": -0.066,
    "covered by folders": 0.651,
    "covered by last folder": 0.179,
    "file's chunks found": 0.060,
    "file's best meaning": 0.020,
    "file's words": 0.090,
    "file covers": 0.071,
    "file covers all": 0.024,
    "tests": -0.714,
    "documentation": -0.154,
    "data": -0.177,
    "entry": 0.106,
    "depth": -0.213,
    "two words are its file name": 0.098,
}
VALUES = np.array([WEIGHTS[name] for name in NAMES], np.float32)
"""The same in the order of the columns of evidence."""
