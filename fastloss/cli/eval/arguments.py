"""Score predictions in files against their targets.

PREDICTIONS and TARGETS are .npy, .npz, .safetensors, Zarr, Parquet, Arrow IPC
or Feather files, or those of llama-perplexity --kl-divergence-base; FILE:NAME
is one of several arrays or columns in a file. They may be directories of such
files, or quoted patterns ('logits-*.npy'), whose names are matched: many shards
are scored as one array would be. Files are mapped into memory or read in chunks
of rows, so they may be larger than memory (compressed .npz members may not).
Without --loss the loss is guessed from dtypes, shapes and values; the report
says which and why:

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

from fastloss.cli import argument_types

EPILOG = """\
Perplexity is exp(mean loss). Accuracy is not weighted; a binary prediction
above 0.5 (a logit above 0) says 1. MSE, RMSE and MAE are weighted as the loss
is. Speeds count the bytes of all inputs, after a first call on a few rows.
--json prints one object on one line; a number that is not finite is written
as "NaN", "Infinity" or "-Infinity". Exit codes: 0, 2 for bad input, 74 where
standard output cannot be written, 130 after Ctrl-C.

--against compares two models on the same rows. The divergence is that of the
predictions' distribution from the reference's, in nats; its quantiles are right
to 0.1 %. With --bootstrap both models have the same rows in each resample, so
that intervals are those of paired differences. A file of llama-perplexity has
the tokens that followed, too: base.kld:targets, say, whatever FILE's name is.

Sums are exact, so that shards, workers and resumed runs give the same bits.
A run of several shards that writes a file keeps a journal beside it until it is
done; --resume goes on from there. --bootstrap is the Poisson bootstrap. Groups
are a list (.npy, .txt, .csv, .json) with an entry for each row, for each index
of the first axis, or for each shard; so are documents and bytes. Rows that are
ignored, such as those of a question, do not count in a document; a document is
greedy if each token that counts is the most likely one.

examples:
  fastloss eval logits.npy labels.npy
  fastloss eval run.npz:logits run.npz:labels --ignore-index 0 --json
  fastloss eval logits.npy labels.npy --per-sample losses.npy --report page.html
  fastloss eval int4.npy labels.npy --against bf16.npy --bootstrap 1000
  fastloss eval q4.kld f16.kld:targets --against f16.kld
  fastloss eval logits.npy labels.npy --documents offsets.npy --bytes bytes.npy
  fastloss eval hidden.npy labels.npy --linear-weight model.safetensors:lm_head.weight
  fastloss eval 'out/*.safetensors:logits' labels/ --workers 8 --output run.json
"""


class _Manifest(argparse.Action):
    """`--manifest`, which takes the place of the two names."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, *_: object
    ) -> None:
        setattr(namespace, self.dest, values)
        for action in parser._get_positional_actions():
            action.required = False


class _NoTargets(argparse.Action):
    """`--no-targets`, which leaves the second name out."""

    def __init__(self, option_strings: list[str], dest: str, **settings: object) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=str(settings["help"]))

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, *_: object
    ) -> None:
        setattr(namespace, self.dest, True)
        for action in parser._get_positional_actions():
            action.required = action.required and action.dest != "targets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fastloss eval`."""
    parser.epilog = EPILOG
    parser.add_argument("predictions", metavar="PREDICTIONS", help="logits, probabilities or values")
    parser.add_argument("targets", metavar="TARGETS", help="class labels, class probabilities or values")
    parser.add_argument(
        "--manifest",
        action=_Manifest,
        metavar="FILE",
        help="the pairs of files, as JSON lines or CSV: predictions, targets, a group and a reference if wanted",
    )
    parser.add_argument(
        "--against",
        metavar="REFERENCE",
        help="compare with another model's logits, such as the original's of a quantised one: both models' figures, "
        "Kullback-Leibler divergence, change of the target's probability",
    )
    parser.add_argument("--no-targets", action=_NoTargets, help="there are no TARGETS: compare distributions alone")
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
        help="class weights (n_classes,) for the softmax family; else weights of rows (N,) or of elements, of all shards",
    )
    parser.add_argument(
        "--linear-weight",
        metavar="FILE",
        help="PREDICTIONS are hidden states (..., n_features): weights (n_classes, n_features) of the layer that makes "
        "logits of them, which are never written",
    )
    parser.add_argument("--linear-bias", metavar="FILE", help="that layer's bias (n_classes,)")
    parser.add_argument(
        "--against-linear-weight",
        metavar="FILE",
        help="weights (n_classes, n_reference_features) of the layer of REFERENCE's hidden states, unless it is the same",
    )
    parser.add_argument("--against-linear-bias", metavar="FILE", help="that layer's bias (n_classes,)")
    parser.add_argument(
        "--ignore-index",
        type=int,
        metavar="N",
        help="rows with this class label do not count (default: -100)",
    )
    parser.add_argument(
        "--label-smoothing", type=argument_types.fraction, metavar="X", help="in [0, 1], for cross_entropy (default: 0)"
    )
    parser.add_argument(
        "--reduction",
        choices=("mean", "sum", "none"),
        default="mean",
        help="the figure to report (default: mean); none writes the loss of each row to --output",
    )
    parser.add_argument(
        "--chunk-size",
        type=argument_types.positive,
        metavar="ROWS",
        help="rows read together (default: about 16 MiB of predictions)",
    )
    parser.add_argument(
        "--top-k", type=argument_types.positive, metavar="K", help="also how often the target is among the K largest"
    )
    parser.add_argument("--brier", action="store_true", help="also the Brier score: the mean squared distance")
    parser.add_argument("--entropy", action="store_true", help="also the mean entropy of the rows, in nats")
    parser.add_argument(
        "--calibration", action="store_true", help="also the expected and the maximum calibration error, with the bins"
    )
    parser.add_argument(
        "--bins", type=argument_types.bins, metavar="N", help="of the calibration, of equal width (default: 15)"
    )
    parser.add_argument(
        "--macro",
        choices=("group", "shard"),
        help="also the mean over groups (as always where there are groups) or over shards, each of the same weight",
    )
    parser.add_argument("--group-by", metavar="FILE", help="results for each group too: a language, a task, a document")
    parser.add_argument(
        "--bootstrap",
        type=argument_types.resamples,
        metavar="N",
        help="95 %% confidence intervals from N resamples (1000, say)",
    )
    parser.add_argument(
        "--seed", type=argument_types.seed, default=0, metavar="S", help="of the resamples (default: 0)"
    )
    parser.add_argument(
        "--resample",
        choices=("row", "sample", "group", "shard"),
        default="row",
        help="what is resampled: rows (default), all of one index of the first axis, of one group, of one shard",
    )
    parser.add_argument(
        "--documents",
        metavar="FILE",
        help="log-probabilities of documents: a list of the rows where they begin, from 0 to the number of rows, or of "
        "the document of each row",
    )
    parser.add_argument(
        "--per-document", metavar="FILE", help="write what is known of each document there: .npy, .parquet or .jsonl"
    )
    parser.add_argument(
        "--bytes", metavar="FILE", help="bits per byte: the bytes of text of each row, document, sample or shard"
    )
    parser.add_argument("--per-sample", metavar="FILE", help="write the loss of each row of all shards there, as .npy")
    parser.add_argument(
        "--report", metavar="FILE", help="write a page there: figures, distribution, calibration, worst rows (HTML)"
    )
    parser.add_argument(
        "--workers", type=argument_types.positive, metavar="N", help="score shards in N processes (extra dask)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="score shards on the workers of a Dask scheduler")
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="where finished shards are noted (default: OUTPUT.journal, with several shards and an output)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run that the journal is of, if there is one"
    )
    parser.add_argument("--threads", type=argument_types.positive, metavar="N", help="number of threads (default: all)")
    parser.add_argument("--backend", metavar="NAME", help="where to compute; `fastloss info` lists them")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the report there as JSON; with --reduction none, the losses as .npy",
    )


def run(args: argparse.Namespace) -> int:
    """Score and report; bad input raises a `Failure`."""
    from fastloss.cli.interrupt import ends_at_once

    with ends_at_once():
        from .run import run  # only here: NumPy and the library, which `fastloss eval --help` can do without

    return run(args)
