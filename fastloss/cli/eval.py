"""Score predictions in .npy or .npz files against their targets.

PREDICTIONS, TARGETS and --weight are FILE.npy, FILE.npz (of one array) or
FILE.npz:NAME. Files are mapped into memory and read in chunks of rows, so they
may be larger than memory (compressed .npz members may not). Without --loss the
loss is guessed from dtypes, shapes and values; the report says which and why:

  integer targets of the predictions' shape without the class axis
      cross_entropy, or categorical_cross_entropy if each row of predictions
      is a probability distribution
  targets of the predictions' shape whose rows are distributions
      the same two, with class probabilities as targets
  targets of the predictions' shape that are all 0 or 1
      binary_cross_entropy for predictions in [0, 1], else
      binary_cross_entropy_with_logits
  other targets of the predictions' shape
      mse_loss
"""

from __future__ import annotations

import argparse

from ._failure import Failure

EPILOG = """\
Perplexity is exp(mean loss). Accuracy is not weighted; a binary prediction
above 0.5 (a logit above 0) says 1. MSE, RMSE and MAE are weighted as the loss
is. Speeds count the bytes of all inputs, after a first call on a few rows.
--json prints one object on one line; a number that is not finite is written
as "NaN", "Infinity" or "-Infinity". Exit codes: 0, 2 for bad input, 130 after
Ctrl-C.

examples:
  fastloss eval logits.npy labels.npy
  fastloss eval run.npz:logits run.npz:labels --ignore-index 0 --json
  fastloss eval logits.npy labels.npy --reduction none --output losses.npy
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fastloss eval`."""
    parser.epilog = EPILOG
    parser.add_argument("predictions", metavar="PREDICTIONS", help="logits, probabilities or values")
    parser.add_argument("targets", metavar="TARGETS", help="class labels, class probabilities or values")
    parser.add_argument("--loss", metavar="NAME", help="the loss, by its name in fastloss (default: guessed)")
    parser.add_argument(
        "--axis",
        type=int,
        metavar="N",
        help="the class axis (default: the last, or 1 if only that fits, as torch lays out); "
        "0 for a regression: one loss per output",
    )
    parser.add_argument(
        "--weight",
        metavar="FILE",
        help="class weights (n_classes,) for the softmax family; else weights of rows (N,) or of elements",
    )
    parser.add_argument(
        "--ignore-index",
        type=int,
        metavar="N",
        help="rows with this class label do not count (default: -100)",
    )
    parser.add_argument(
        "--label-smoothing", type=_fraction, metavar="X", help="in [0, 1], for cross_entropy (default: 0)"
    )
    parser.add_argument(
        "--reduction",
        choices=("mean", "sum", "none"),
        default="mean",
        help="the figure to report (default: mean); none writes the loss of each row to --output",
    )
    parser.add_argument(
        "--chunk-size",
        type=_positive,
        metavar="ROWS",
        help="rows read together (default: about 16 MiB of predictions)",
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="number of threads (default: all)")
    parser.add_argument("--backend", metavar="NAME", help="where to compute; `fastloss info` lists them")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the report there as JSON; with --reduction none, the losses as .npy",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


_positive.__name__ = "whole number"  # argparse names the type in its message


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1], not {text}")
    return number


_fraction.__name__ = "number"


def run(args: argparse.Namespace) -> int:
    """Evaluate and report; bad input raises a `Failure`."""
    # Only here: these load NumPy and the library, which `fastloss eval --help` can do without.
    import contextlib
    import os

    from . import _library, _report
    from ._evaluate import evaluate
    from ._job import Request, prepare
    from ._output import OutputFile, RowWriter
    from ._progress import Progress

    job = prepare(
        Request(
            predictions=args.predictions,
            targets=args.targets,
            loss=args.loss,
            axis=args.axis,
            weight=args.weight,
            ignore_index=args.ignore_index,
            label_smoothing=args.label_smoothing,
            reduction=args.reduction,
            output=args.output,
        )
    )
    inputs = [source.path for source in (job.predictions, job.targets, job.weight) if source is not None]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_library.settings(args.backend, args.threads))
        output = None
        if args.output is not None:
            if os.path.exists(args.output) and any(os.path.samefile(args.output, path) for path in inputs):
                raise Failure(args.output, "is also an input; it would be overwritten")
            output = stack.enter_context(OutputFile(args.output))
        writer = RowWriter(output, job.layout.shape) if output is not None and args.reduction == "none" else None
        with Progress(job.layout.n_rows, wanted=not args.json) as progress:
            figures = evaluate(job, args.chunk_size, writer, progress)
        report = _report.as_json(_report.document(job, figures, args.chunk_size, args.output))
        if output is not None:
            if writer is None:
                output.write(report.encode() + b"\n")
            output.commit()
    _report.show(report if args.json else _report.text(job, figures, args.output))
    return 0
