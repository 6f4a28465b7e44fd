"""Captioning beside transformers' generate, on the same weights in the same process.

    python tests/benchmarks/search_speed.py [--beams 1 3 5] [--rounds 7] [--dtype bfloat16]
    python tests/benchmarks/search_speed.py --device cuda       # ViT-B/16, batch 256, bf16
    python tests/benchmarks/search_speed.py --captioner DIR --images DIR    # trained weights
    python tests/benchmarks/search_speed.py --growth            # with beams and length

Without a captioner: ViT-S/16 + 6 GPT layers of width 384, vocabulary 10,000, random weights, 20
forced tokens. Rounds alternate, figures are medians, ratios are medians of each round's ratio.
The bound is what the same floating-point operations take at the rate at which transformers runs
the encoder. In bfloat16 on a CPU, ours in float32 takes its turn too. Needs the dev extra.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from captioning_pair import (
    BOS,
    EOS,
    PAD,
    Pair,
    decoder_operations,
    encoder_operations,
    random_pair,
    trained_pair,
)

from pipeline.decode import Limits, search
from pipeline.models.captioner import Memory
from pipeline.models.linear import Linear, lay_out_for_inference


def seconds(run: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def alternating(runs: list[Callable[[], object]], options: argparse.Namespace) -> list[list[float]]:
    """Seconds of each run, a list for each; they take turns."""
    for run in runs:
        for _ in range(3 if options.device == "cuda" else 1):  # the GPU's graphs are recorded
            seconds(run, options.device)
    rounds = [[seconds(run, options.device) for run in runs] for _ in range(options.rounds)]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def same_captions(pair: Pair, beam: int) -> str:
    ours, theirs = pair.caption(beam), pair.generate(beam)
    same = sum(h[0].tokens == tokens for h, tokens in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} captions equal"


def compare(pair: Pair, options: argparse.Namespace) -> None:
    """The encoders, then whole pictures by beam; the bound is taken in the same rounds."""
    count, middle = len(pair.images), statistics.median
    operations = count * encoder_operations(pair.architecture)
    mine, others = alternating([pair.encode, pair.encode_theirs], options)
    print(
        f"encoder: ours {count / middle(mine):.1f} img/s, transformers {count / middle(others):.1f} "
        f"({operations / middle(others) / 1e9:.0f} GFLOP/s), ratio {ratio(others, mine):.2f}"
    )
    for beam in options.beams:
        tokens = statistics.mean(len(h[0].tokens) for h in pair.caption(beam))
        work = operations + count * decoder_operations(pair.architecture, beam, tokens)
        runs: list[Callable[[], object]] = [
            lambda beam=beam: pair.caption(beam),  # type: ignore[misc]
            lambda beam=beam: pair.generate(beam),  # type: ignore[misc]
            pair.encode_theirs,
        ]
        if pair.single is not None:
            runs.append(lambda beam=beam: pair.caption_single(beam))  # type: ignore[misc]
        mine, others, encoding, *single = alternating(runs, options)
        bound = [taken * work / operations for taken in encoding]
        print(
            f"beam {beam}: ours {count / middle(mine):.1f} img/s, generate {count / middle(others):.1f}, "
            f"ratio {ratio(others, mine):.2f}; bound {count / middle(bound):.1f} img/s, ours at "
            f"{100 * ratio(bound, mine):.0f} % of it, generate at {100 * ratio(bound, others):.0f} %; "
            f"{tokens:.1f} tokens, {same_captions(pair, beam)}"
        )
        for taken in single:
            print(
                f"beam {beam}: ours in float32 {count / middle(taken):.1f} img/s, "
                f"{options.dtype} {ratio(taken, mine):.2f} times as fast"
            )


def roofline(pair: Pair, options: argparse.Namespace) -> None:
    """On a GPU: the encoder beside the measured matrix rate, the search beside its bound."""
    a = torch.randn(8192, 8192, device="cuda", dtype=pair.images.dtype)
    big = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    source = torch.zeros_like(big)
    with torch.inference_mode():
        product, copy = alternating([lambda: a @ a, lambda: big.copy_(source)], options)
    rate, bandwidth = 2 * 8192.0**3 / min(product), 2 * big.numel() / min(copy)
    count, beam = len(pair.images), options.beams[0]
    [encoding] = alternating([pair.encode], options)
    done = count * encoder_operations(pair.architecture) / statistics.median(encoding)
    print(
        f"matrix rate {rate / 1e12:.0f} TFLOP/s, memory {bandwidth / 1e12:.2f} TB/s; encoder "
        f"{done / 1e12:.0f} TFLOP/s, {100 * done / rate:.0f} % of the matrix rate"
    )
    memory = Memory(pair.encode())
    with torch.inference_mode():
        [searching] = alternating(
            [lambda: search(pair.ours, memory, pair.limits, beam=beam)], options
        )
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            waits.clear()  # that the mode is a prototype
            search(pair.ours, memory, pair.limits, beam=beam)
            torch.cuda.set_sync_debug_mode("default")
    tokens = options.tokens
    each = pair.images.element_size()
    weights = sum(p.numel() for p in pair.ours.decoder.parameters()) * each
    looked = 2 * pair.architecture["decoder"]["layers"] * memory.tokens_BSD.numel() * each
    work = count * decoder_operations(pair.architecture, beam, tokens)
    bound = max(work / rate, tokens * (weights + looked) / bandwidth)
    print(
        f"search, beam {beam}: {1000 * statistics.median(searching):.1f} ms, its roofline "
        f"{1000 * bound:.1f} ms ({statistics.median(searching) / bound:.1f} x); "
        f"{len(waits)} host synchronisations in {tokens} tokens"
    )


def growth(pair: Pair, options: argparse.Namespace) -> None:
    """The time for the batch as beams and captions grow, beside growth in proportion.

    Of three things: the steps alone (the search without its start, the memory's keys and values,
    which is paid once a picture whatever follows), the search, and the encoder and the search.
    """
    memory = Memory(pair.encode())

    def run(beam: int, tokens: int) -> Callable[[], object]:
        limits = Limits(BOS, EOS, PAD, max_len=tokens, min_len=tokens)
        return lambda: search(pair.ours, memory, limits, beam=beam)

    @torch.inference_mode()
    def start() -> object:
        return pair.ours.init_state(memory, 1, 1)

    most = pair.architecture["decoder"]["positions"]
    lengths = [tokens for tokens in (10, 20, 40, 80) if tokens <= most]
    series = (
        ("beams, 20 tokens", (1, 2, 4, 8, 16), [run(beam, 20) for beam in (1, 2, 4, 8, 16)]),
        ("tokens, beam 1", lengths, [run(1, tokens) for tokens in lengths]),
        ("tokens, beam 3", lengths, [run(3, tokens) for tokens in lengths]),
    )
    runs = [run for _, _, some in series for run in some]
    encoding, once, *searching = alternating([pair.encode, start, *runs], options)
    print(
        f"growth, {len(pair.images)} pictures: ms of the steps alone (x: beside growth in proportion, of "
        f"the steps / the search with its start of {1000 * statistics.median(once):.0f} ms / encoder "
        f"of {1000 * statistics.median(encoding):.0f} ms and search)"
    )
    rows = iter(searching)
    for what, sizes, some in series:
        taken = [next(rows) for _ in some]
        parts = [
            [[t - o for t, o in zip(each, once, strict=True)] for each in taken],
            taken,
            [[t + e for t, e in zip(each, encoding, strict=True)] for each in taken],
        ]
        cells = []
        for place, size in enumerate(sizes):
            beside = [ratio(part[place], part[0]) * sizes[0] / size for part in parts]
            steps = 1000 * statistics.median(parts[0][place])
            cells.append(f"{size}: {steps:.0f} ({' / '.join(f'{x:.2f}' for x in beside)} x)")
        print(f"  {what}: {', '.join(cells)}")


def products(options: argparse.Namespace) -> None:
    """torch's matrix product beside ours, at the encoder's and the search's sizes."""
    dtype = getattr(torch, options.dtype)
    for rows in (options.batch * 197, options.batch * 3):
        x, theirs = torch.randn(rows, 384, dtype=dtype), torch.nn.Linear(384, 1536, dtype=dtype)
        ours = Linear(384, 1536, dtype=dtype)
        lay_out_for_inference(ours)
        with torch.inference_mode():
            mine, others = alternating(
                [
                    lambda x=x, layer=ours: layer(x),  # type: ignore[misc]
                    lambda x=x, layer=theirs: layer(x),  # type: ignore[misc]
                ],
                options,
            )
        work = 2e-9 * rows * 384 * 1536
        print(
            f"product [{rows}, 384] x [384, 1536]: ours {work / statistics.median(mine):.0f} GFLOP/s, "
            f"torch {work / statistics.median(others):.0f}, ratio {ratio(others, mine):.2f}"
        )


def machine(options: argparse.Namespace) -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
        flags = next((x for x in lines if x.startswith("flags")), "")
        native = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
        name += f", bf16 by {', '.join(native)}" if native else ", no bf16 instructions"
    if options.device == "cuda":
        name = torch.cuda.get_device_name()
    return f"{name}; {options.threads} threads; torch {torch.__version__}; {options.dtype}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--beams", type=int, nargs="+")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--growth", action="store_true", help="the search's time as it grows")
    parser.add_argument("--captioner", type=Path, help="a directory: ViT and GPT, trained")
    parser.add_argument("--images", type=Path, help="a folder of photos for it")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    options.dtype = options.dtype or ("bfloat16" if on_gpu else "float32")
    options.batch = options.batch or (256 if on_gpu else 16)
    options.beams = options.beams or ([3] if on_gpu else [1, 3, 5])
    if on_gpu and not torch.cuda.is_available():
        parser.exit(1, "no CUDA device here: this part needs one\n")
    torch.set_num_threads(options.threads)
    print(machine(options))
    pair = trained_pair(options) if options.captioner else random_pair(options)
    if not on_gpu:
        products(options)
    compare(pair, options)
    if on_gpu:
        roofline(pair, options)
    if options.growth:
        growth(pair, options)


if __name__ == "__main__":
    main()
