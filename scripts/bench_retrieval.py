"""Whether chunks are found: codechunk's own search beside other people's chunkers, with real embeddings, offline.

    scripts/bench retrieval --mirrors DIR --cache DIR [--set tuning|test|all] [--chunkers a,b] [--repos a,b] [--each]
                            [--flag chunking.max_tokens=256] [--vectors synthetic] [--keep DIR]
                            [--json FILE] [--compare FILE]

DIR/owner+name/repo (or DIR/owner/name) are clones of the repositories in scripts/benchmarks/corpus.yaml; missing ones
are cloned. Doc sets: first sentences of documentation comments, which were removed from the code. Commit sets: subjects
of later commits, answered by the old side of their hunks. All chunkers get the same model (all-MiniLM-L6-v2, 256 word
pieces), the same lexical half (BM25 over path and text, sub-words, stems) and reciprocal rank fusion; `codechunk
search` is the product as its users have it, `codechunk chunks` are its chunks ranked like everybody else's. Prints
Markdown. With `--vectors synthetic` only codechunk's search is asked, as dev mode has it; --keep keeps the indexes.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from benchmarks.corpus import load
from benchmarks.encoder import MOST_PIECES, Encoder
from benchmarks.measure import Lexical, Scores, Shown, by_vector, covered, first_hit, fused
from benchmarks.ours import indexed
from benchmarks.peers import PEERS, UnsupportedLanguageError, release
from benchmarks.queries import CORPUS, commit_set, doc_set

from codechunk.chunking import ChunkSettings, detect_language
from codechunk.text.tokens import count_tokens

OURS = "codechunk search"
CHUNKS = "codechunk chunks"
RANKINGS = ("joined", "vectors", "BM25")


@dataclass(slots=True)
class Row:
    """What one chunker reached on one set of queries, and what it cost."""

    scores: dict[str, Scores] = field(default_factory=lambda: defaultdict(Scores))
    source_tokens: int = 0
    embedded_tokens: int = 0
    chunks: int = 0
    pieces: int = 0
    pieces_cut: int = 0
    # Of codechunk's own search: each query, the rank of the first hit, and its share of the gold.
    questions: list[tuple[str, int | None, float]] = field(default_factory=list)

    def merge(self, other: "Row") -> None:
        """Add what was reached on another repository."""
        for name, scores in other.scores.items():
            self.scores[name].merge(scores)
        for name in ("source_tokens", "embedded_tokens", "chunks", "pieces", "pieces_cut"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def main() -> None:
    """Measure and print."""
    args = arguments()
    encoder = Encoder(args.cache / "encoder", threads=args.threads) if args.vectors == "minilm" else None
    rows: dict[tuple[str, str, str], Row] = defaultdict(Row)  # (set, docs or commits, chunker)
    each: list[tuple[str, str, str, Row]] = []
    for repository in load(args.corpus, args.mirrors, args.cache, args.set):
        if args.repos and repository.name not in args.repos:
            continue
        docs, commits = doc_set(repository), commit_set(repository)
        for kind, files, queries in (("docs", docs.files, docs.queries), ("commits", commits.files, commits.queries)):
            asked = [(query.text, query.gold) for query in queries]
            for chunker in args.chunkers:
                print(f"{repository.name} {kind} {chunker}", file=sys.stderr, flush=True)
                if chunker == OURS:
                    name = f"{repository.name.replace('/', '+')}-{kind}-{digest(files, args.flags)}"
                    row = ours(files, asked, encoder, args.flags, args.keep and args.keep / name)
                else:
                    row = ranked_chunks(chunker, files, asked, encoder)
                rows[repository.set, kind, chunker].merge(row)
                each.append((repository.name, kind, chunker, row))
    print_tables(rows)
    if args.each:
        print_each(each)
    mine = [
        {"repository": name, "kind": kind, "query": text, "rank": rank, "covered": share}
        for name, kind, _, row in each
        for text, rank, share in row.questions
    ]
    if args.json:
        args.json.write_text(json.dumps(mine, indent=1, ensure_ascii=False), encoding="utf-8")
    if args.compare:
        print_comparison(json.loads(args.compare.read_text(encoding="utf-8")), mine)


def print_comparison(before, after) -> None:
    """What codechunk's search gained since an earlier run, on the queries of both."""
    old = {(each["repository"], each["kind"], each["query"]): each for each in before}
    keys = [(each["repository"], each["kind"], each["query"]) for each in after]
    pairs = [(old[key], each) for key, each in zip(keys, after, strict=True) if key in old]
    print("\n| gain | queries | MRR@10 | Cov@4k | wins, losses (MRR@10) | wins, losses (Cov@4k) |\n" + "|---" * 6 + "|")
    for kind in dict.fromkeys(each["kind"] for _, each in pairs):
        some = [(was, now) for was, now in pairs if now["kind"] == kind]
        ranks = [reciprocal(now["rank"]) - reciprocal(was["rank"]) for was, now in some]
        shares = [now["covered"] - was["covered"] for was, now in some]
        means = " | ".join(f"{sum(gains) / len(gains):+.4f}" for gains in (ranks, shares))
        counts = " | ".join(
            f"{sum(gain > 0 for gain in gains)}, {sum(gain < 0 for gain in gains)}" for gains in (ranks, shares)
        )
        print(f"| {kind} | {len(some)} | {means} | {counts} |")


def reciprocal(rank: int | None) -> float:
    """What a first hit at this rank is worth for MRR@10."""
    return 1 / rank if rank is not None and rank <= 10 else 0.0


def digest(files, flags) -> str:
    """What tells a kept index from those of other files, settings or vectors."""
    return hashlib.sha256(repr((sorted(files.items()), sorted(flags.items()))).encode()).hexdigest()[:12]


def ours(files, asked, encoder: Encoder | None, flags, kept: Path | None) -> Row:
    """codechunk's index and its search."""
    row = Row(source_tokens=tokens_of(files))
    with indexed(files, encoder, flags, kept=kept) as index:
        row.embedded_tokens, row.chunks = index.tokens_embedded, index.chunks
        for text, gold in asked:
            answers = index.search(text)
            row.scores["joined"].add(answers, gold)
            row.questions.append((text, first_hit(answers, gold), covered(answers, gold)))
    return row


def ranked_chunks(name: str, files, asked, encoder: Encoder) -> Row:
    """A chunker's chunks, ranked by vectors, by words, and by both joined."""
    paths, spans = chunks_of(name, files)
    row = Row(source_tokens=tokens_of(files), chunks=len(spans))
    texts = [span.embedded for span in spans]
    counts = [count_tokens(text) for text in texts]
    row.embedded_tokens = sum(counts)
    vectors, pieces = encoder.encode_counted(texts)
    row.pieces, row.pieces_cut = int(pieces.sum()), int(np.maximum(pieces - MOST_PIECES, 0).sum())
    shown = [answer(path, files[path], span, count) for path, span, count in zip(paths, spans, counts, strict=True)]
    words = Lexical(zip(paths, (span.text for span in spans), strict=True))
    questions = encoder.encode([text for text, _ in asked])
    for (text, gold), question in zip(asked, questions, strict=True):
        near, literal = by_vector(vectors, question), words.ranking(text)
        for ranking, numbers in zip(RANKINGS, (fused(near, literal), near, literal), strict=True):
            row.scores[ranking].add([shown[number] for number in numbers], gold)
    return row


def chunks_of(name: str, files):
    """Paths and spans of all chunks; where the chunker has no grammar, LangChain's separators cut."""
    chunker, plain = PEERS["codechunk" if name == CHUNKS else name](), PEERS["langchain"]()
    limit = ChunkSettings().max_tokens
    paths, spans = [], []
    for path, data in sorted(files.items()):
        language = detect_language(path, data)
        try:
            found = chunker(data, path, language, limit)
        except UnsupportedLanguageError:
            found = plain(data, path, language, limit)
        kept = [span for span in found if span.text.strip()]
        paths += [path] * len(kept)
        spans += kept
    return paths, spans


def answer(path: str, data: bytes, span, tokens: int) -> Shown:
    """A chunk as an answer: the lines its bytes are on."""
    first = data.count(b"\n", 0, span.start) + 1
    return Shown(path, first, first + data.count(b"\n", span.start, max(span.start, span.end - 1)), tokens)


def tokens_of(files) -> int:
    """cl100k tokens of the source."""
    return sum(count_tokens(data.decode("utf-8", "replace")) for data in files.values())


def print_tables(rows) -> None:
    """A table for each set and kind of query."""
    for group, kind in dict.fromkeys((key[0], key[1]) for key in rows):
        mine = {
            chunker: row for (in_group, in_kind, chunker), row in rows.items() if (in_group, in_kind) == (group, kind)
        }
        queries = next(iter(mine.values())).scores["joined"].queries
        print(f"\n### {group} set, {kind}: {queries:,} queries\n")
        print(
            "| chunker | chunks | tokens/chunk | embedded / source | cut by the model | R@1 | R@5 | R@10 | MRR@10 "
            "| Cov@4k | vectors MRR / Cov | BM25 MRR / Cov |"
        )
        print("|" + "---|" * 12)
        for chunker, row in mine.items():
            joined = row.scores["joined"].means()
            alone = [
                "{MRR@10:.3f} / {Cov@4k:.3f}".format(**row.scores[ranking].means()) if ranking in row.scores else "–"
                for ranking in RANKINGS[1:]
            ]
            cut = f"{row.pieces_cut / row.pieces:.1%}" if row.pieces else "–"
            print(
                f"| {titled(chunker)} | {row.chunks:,} | {row.embedded_tokens / max(row.chunks, 1):.0f} "
                f"| {row.embedded_tokens / row.source_tokens:.3f} | {cut} | "
                + " | ".join(f"{joined[name]:.3f}" for name in ("R@1", "R@5", "R@10", "MRR@10", "Cov@4k"))
                + f" | {alone[0]} | {alone[1]} |"
            )


def titled(chunker: str) -> str:
    """The chunker and its release."""
    return f"**{chunker}**" if chunker in (OURS, CHUNKS) else f"{chunker} {release(chunker)}"


def print_each(each) -> None:
    """Every repository for itself."""
    print("\n| repository | queries | chunker | n | MRR@10 | Cov@4k |\n|---|---|---|---|---|---|")
    for name, kind, chunker, row in each:
        means = row.scores["joined"].means()
        print(
            f"| {name} | {kind} | {chunker} | {row.scores['joined'].queries} "
            f"| {means['MRR@10']:.3f} | {means['Cov@4k']:.3f} |"
        )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--set", choices=("tuning", "test", "all"), default="all")
    parser.add_argument("--chunkers", help="names with commas between them")
    parser.add_argument("--vectors", choices=("minilm", "synthetic"), default="minilm")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep codechunk's indexes there, for the next run")
    parser.add_argument("--repos", help="only these repositories, owner/name with commas between them")
    parser.add_argument("--each", action="store_true", help="print the figures of each repository too")
    parser.add_argument("--json", type=Path, help="write what codechunk's search got for each query")
    parser.add_argument("--compare", type=Path, help="a file of an earlier --json: what was gained since")
    parser.add_argument("--threads", type=int, help="of the model")
    parser.add_argument("--flag", action="append", default=[], metavar="KEY=VALUE", help="a setting of codechunk")
    args = parser.parse_args()
    default = [OURS] if args.vectors == "synthetic" else all_chunkers()
    args.chunkers = args.chunkers.split(",") if args.chunkers else default
    args.keep = args.keep and args.keep / args.vectors
    args.repos = args.repos.split(",") if args.repos else None
    args.flags = {key: json.loads(value) for key, _, value in (flag.partition("=") for flag in args.flag)}
    unknown = set(args.chunkers) - set(all_chunkers())
    if unknown:
        parser.error(f"--chunkers: there is {', '.join(all_chunkers())}.")
    if args.vectors == "synthetic" and args.chunkers != [OURS]:
        parser.error(f"--vectors synthetic: only {OURS} has them.")
    return args


def all_chunkers() -> list[str]:
    """Names that --chunkers takes."""
    return [OURS, CHUNKS, *(name for name in PEERS if name != "codechunk")]


if __name__ == "__main__":
    main()
