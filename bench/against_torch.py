"""What an evaluation asks of logits beside the calls of torch that give it, on the CPU, in one run: equal results, times, and memory beyond the
logits.

python bench/against_torch.py                       # 1024x128256 of bfloat16, for each of two models
python bench/against_torch.py --rows 256 --threads 1

Log-probabilities of targets, the 20 most likely classes, and entropies from log_softmax, gather, topk and a sum; the divergence of two models from two
log_softmax and kl_div.  Exit code 1 if results differ, or if fastloss is less than --least times as fast.
"""

import argparse
import resource
import sys
import time

import ml_dtypes
import numpy as np
import torch
from compare_limit import models

import fastloss

TOP = 20
REPEATS = 3


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=128_256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--least", type=float, default=5.0, help="how many times as fast fastloss has to be")
    parser.add_argument("--cpu-time", action="store_true", help="time of all threads, where others use the machine too")
    return parser.parse_args()


def of_torch(reference, logits, target):
    """As one would write it: in float32, because bfloat16 keeps two or three digits of a log-probability."""
    log_q = torch.log_softmax(logits, -1, dtype=torch.float32)
    nll = -log_q.gather(1, target[:, None])[:, 0]
    top = log_q.topk(TOP, -1)
    entropy = -(log_q.exp() * log_q).sum(-1)
    log_p = torch.log_softmax(reference, -1, dtype=torch.float32)
    kl = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return [nll, top.values, top.indices, entropy, kl, -log_p.gather(1, target[:, None])[:, 0]]


def of_fastloss(reference, logits, target):
    scores = fastloss.score(logits, target, top=TOP, entropy=True)
    comparison = fastloss.compare(reference, logits, target)
    return [
        scores.nll, scores.top_log_probs, scores.top_ids, scores.entropy, comparison.kl, comparison.reference_nll
    ]  # fmt: skip


def peak():
    """Most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def differences(ours, theirs, logits):
    """Of each result the largest difference; of ids that of the logits they stand for, because equal ones may be in any order."""
    names = ("nll", "top log-probs", "top ids", "entropy", "kl", "reference's nll")
    for name, a, b in zip(names, ours, theirs, strict=True):
        b = b.numpy()
        if name == "top ids":
            a, b = (np.take_along_axis(logits, ids, -1).astype(np.float32) for ids in (a, b))
        yield name, float(np.abs(a - b).max()), 0.0 if name == "top ids" else 2e-5 * max(1.0, float(np.abs(b).max()))


def main():
    args = parsed()
    torch.set_num_threads(args.threads)
    reference, logits, target = models(args.rows, args.classes, ml_dtypes.bfloat16)
    tensors = [torch.from_numpy(a.view(np.int16)).view(torch.bfloat16) for a in (reference, logits)]
    tensors.append(torch.from_numpy(target))
    clock = time.process_time if args.cpu_time else time.perf_counter
    times, results, memory = {}, {}, {}
    with fastloss.use_threads(args.threads), torch.inference_mode():
        of_fastloss(reference[:1], logits[:1], target[:1])
        before = peak()
        for _ in range(REPEATS):
            for name, run, arrays in (
                ("fastloss", of_fastloss, (reference, logits, target)),
                ("torch", of_torch, tensors),
            ):
                begin = clock()
                results[name] = run(*arrays)
                times[name] = min(times.get(name, np.inf), clock() - begin)
                memory.setdefault(name, peak() - before)  # fastloss comes first: the peak never falls
    ratio = times["torch"] / times["fastloss"]
    print(
        f"{args.rows}x{args.classes} bfloat16, {args.threads} threads, torch {torch.__version__}, fastloss {fastloss.__version__}"
    )
    for name, seconds in times.items():
        print(f"{name:9s} {seconds * 1e3:9.1f} ms, {memory[name] / 1e6:8.1f} MB beyond the logits")
    print(f"torch takes {ratio:.1f} times as long")
    wrong = False
    for name, found, allowed in differences(results["fastloss"], results["torch"], logits):
        wrong |= not found <= allowed
        print(f"{name:16s} differs by at most {found:.2g}{'' if found <= allowed else ', TOO MUCH'}")
    return int(wrong or ratio < args.least)


if __name__ == "__main__":
    sys.exit(main())
