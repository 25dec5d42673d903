"""How much each piece of evidence counts. Learned by `scripts/bench learn-ranking`, not chosen by hand.

Learned 2026-11-27 on the tuning halves alone: 611 questions of 31 repositories (files) and 1,739 of 8 (lines, at .4 of
their weight), synthetic vectors. NDCG@10 of files is 0.869 on repositories that were left out of the learning (four
folds), 0.877 on those that were in it.
"""

import numpy as np

from codechunk.search.evidence import NAMES

WEIGHTS = {
    "words": 0.280,
    "meaning": 0.174,
    "words and meaning": -0.008,
    "words covered": 0.075,
    "covered by symbol": 0.133,
    "covered by last name": 0.071,
    "last name asked for": 0.085,
    "last name covers and is asked for": -0.173,
    "covered by comments": -0.250,
    "defines a name of the sentence": 0.072,
    "type named by a word": -0.045,
    "is a type": -0.097,
    "is a block": -0.094,
    "is a section": -0.877,
    "two words are its name": 0.067,
    "length": 0.157,
    "covered by file name": 0.079,
    "file name asked for": 0.143,
    "whole file name asked for": 0.022,
    "covered by folders": 0.648,
    "covered by last folder": 0.178,
    "file's chunks found": 0.053,
    "file's best meaning": 0.012,
    "file's words": 0.102,
    "file covers": 0.056,
    "file covers all": 0.016,
    "tests": -0.689,
    "documentation": -0.532,
    "data": -0.151,
    "entry": 0.114,
    "depth": -0.202,
    "two words are its file name": 0.075,
}
VALUES = np.array([WEIGHTS[name] for name in NAMES], np.float32)
"""The same in the order of the columns of evidence."""
