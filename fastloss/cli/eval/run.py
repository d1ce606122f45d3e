"""One run of `fastloss eval`: from its options to files, a plan, figures and what is written."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastloss.cli import library
from fastloss.cli.eval.plan.opened import Opened, Request
from fastloss.cli.eval.plan.plan import Plan
from fastloss.cli.eval.plan.survey import survey
from fastloss.cli.eval.show import report
from fastloss.cli.eval.show.figures import figures_of
from fastloss.cli.eval.stats.distribution import BINS
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.eval.work.chunks import losses_dtype
from fastloss.cli.eval.work.pieces import intact, loss_writer, run_description, run_pieces
from fastloss.cli.eval.work.progress import Progress
from fastloss.cli.failure import Failure
from fastloss.cli.files import split
from fastloss.cli.files.output import OutputFile, take_back
from fastloss.cli.files.shards import Shard, find, read_manifest
from fastloss.cli.files.table import table_writer
from fastloss.cli.printing import as_json, say

if TYPE_CHECKING:
    from fastloss.cli.eval.stats.bootstrap import Resampling
    from fastloss.cli.eval.stats.documents import Bytes, Documents
    from fastloss.cli.eval.stats.groups import Grouping


# Options that name files of arrays and lists.
_LAYERS = ("linear_weight", "linear_bias", "against_linear_weight", "against_linear_bias")
_INPUTS = ("weight", *_LAYERS, "group_by", "documents", "bytes")


def run(args: argparse.Namespace) -> int:
    """Score and report; bad input raises a `Failure`."""
    losses_path = args.output if args.reduction == "none" else args.per_sample
    _check_options(args)
    with contextlib.ExitStack() as stack:
        stack.enter_context(library.settings(args.backend, args.threads))
        plan = survey(_shards(args), _request(args), None if losses_path is None else losses_dtype)
        _check_fitting(args, plan.first)
        grouping = _grouping(args, plan)
        documents, n_bytes = _documents(args, plan)
        measures = Measures(
            top_k=args.top_k,
            groups=grouping is not None,
            report=args.report is not None,
            resampling=_resampling(args),
            losses=losses_path is not None,
            against=plan.first.reference is not None,
            documents=documents is not None,
            n_bytes=None if n_bytes is None else "row" if n_bytes.kind == "row" else "unit",
            brier=args.brier,
            entropy=args.entropy,
            bins=(args.bins or BINS) if args.calibration else None,
            macro=args.macro or (None if grouping is None else "group"),
            group_intervals=_has_group_intervals(args, grouping),
        )

        wanted = (args.output, args.per_sample, args.per_document, args.report)
        paths = [path for path in wanted if path is not None]
        _check_outputs(paths, args, plan)
        journal = None
        if (journal_path := _journal_path(args, plan, paths)) is not None:
            from fastloss.cli.eval.work.journal import Journal

            files = {name: getattr(args, name) for name in (*_INPUTS, "manifest")}
            described = run_description(plan, measures, args.chunk_size, files) | {"losses": losses_path}
            journal = Journal(journal_path, described, args.resume)
            stack.callback(journal.close)
        resumed = journal is not None and journal.resumed
        finished = journal.pieces() if journal is not None and resumed else {}
        if resumed and losses_path is not None and len(finished) == plan.n_pieces:
            take_back(losses_path)
        files_written = {}
        for path in paths:
            kept = journal is not None and path == losses_path
            file = OutputFile(path, lasting=journal is not None, kept=kept, resumed=kept and resumed)
            files_written[path] = stack.enter_context(file)
        if journal is not None and not resumed:
            journal.start()
        writer = None if losses_path is None else loss_writer(plan, files_written[losses_path])
        done = set(finished) if writer is None else intact(plan, writer, finished)
        state = journal.state(measures, done) if journal is not None and resumed else State(measures)
        cluster = None
        if args.workers is not None or args.scheduler is not None:
            from fastloss.cli.eval.work.cluster import Cluster

            n_left = max(1, plan.n_pieces - len(done))
            n_workers = None if args.workers is None else min(args.workers, n_left)  # a piece is what one worker does
            cluster = stack.enter_context(Cluster(n_workers, args.scheduler))

        n_rows = sum(shard.n_rows for shard in plan.shards)
        with Progress(n_rows, not args.json, plan.n_pieces) as progress:
            seconds = run_pieces(
                plan,
                measures,
                _marks(grouping, documents, n_bytes),
                args.chunk_size,
                cluster,
                journal,
                state,
                done,
                writer,
                progress,
            )
        names = None if grouping is None else grouping.names
        table = None
        if documents is not None:
            from fastloss.cli.eval.stats.documents import table_of

            table = table_of(state.parts["documents"], documents.names, n_bytes is not None, measures.against)
        figures = figures_of(plan.first, state, measures, n_rows, names, table, seconds)
        printed = as_json(report.document(plan, figures, args, len(done)))
        if args.report is not None:
            from fastloss.cli.eval.show.page import page

            files_written[args.report].write(page(plan, figures, state, args).encode())
        if args.per_document is not None:
            assert table is not None
            files_written[args.per_document].write(table_writer(args.per_document)(table))
        if args.output is not None and args.reduction != "none":
            files_written[args.output].write(printed.encode() + b"\n")
        for file in files_written.values():
            file.commit()
        if journal is not None:
            journal.remove()
    say(printed if args.json else report.text(plan, figures, args))
    return 0


def _request(args: argparse.Namespace) -> Request:
    return Request(
        predictions=args.predictions,
        targets=args.targets,
        loss=args.loss,
        axis=args.axis,
        weight=args.weight,
        ignore_index=args.ignore_index,
        label_smoothing=args.label_smoothing,
        reduction=args.reduction,
        output=args.output,
        **{name: getattr(args, name) for name in _LAYERS},
    )


def _shards(args: argparse.Namespace) -> list[Shard]:
    if args.manifest is None:
        return find(args.predictions, args.targets, args.against)
    if args.predictions is not None:
        raise Failure("--manifest", "takes the place of PREDICTIONS and TARGETS")
    if args.against is not None:
        raise Failure("--against", "a manifest names what its files are compared with: reference")
    return read_manifest(args.manifest, not args.no_targets)


def _check_options(args: argparse.Namespace) -> None:
    """Options that exclude each other."""
    if args.no_targets:
        if args.targets is not None:
            raise Failure("--no-targets", f"TARGETS are given: {args.targets}")
        if args.against is None and args.manifest is None:
            raise Failure("--no-targets", "there is nothing to compute without --against REFERENCE")
        for option in ("ignore_index", "top_k", "report", "documents", "bytes", "brier", "entropy", "calibration"):
            if getattr(args, option) not in (None, False):
                raise Failure(f"--{option.replace('_', '-')}", "needs targets")
        if args.loss not in (None, "cross_entropy"):
            raise Failure("--loss", f"{args.loss} needs targets")
    if args.linear_bias is not None and args.linear_weight is None:
        raise Failure("--linear-bias", "needs --linear-weight FILE, the layer's weights")
    if args.against_linear_weight is not None:
        if args.linear_weight is None:
            raise Failure("--against-linear-weight", "needs --linear-weight FILE: both models have hidden states")
        if args.against is None and args.manifest is None:
            raise Failure("--against-linear-weight", "needs --against REFERENCE")
    if args.against_linear_bias is not None and args.against_linear_weight is None:
        raise Failure("--against-linear-bias", "needs --against-linear-weight FILE, the layer's weights")
    if args.reduction == "none" and args.per_sample is not None:
        raise Failure("--per-sample", "--reduction none writes the same to --output; give one of the two")
    if args.per_sample is not None and args.loss == "rmse_loss":
        raise Failure("--per-sample", "rmse_loss has no losses of single rows; take mse_loss")
    if args.workers is not None and args.scheduler is not None:
        raise Failure("--workers", "a scheduler has its own workers; give --workers or --scheduler")
    if args.bins is not None and not args.calibration:
        raise Failure("--bins", "needs --calibration")
    if args.macro == "group" and args.group_by is None and args.manifest is None:
        raise Failure("--macro group", "needs --group-by FILE")
    if args.resample == "group" and args.group_by is None and args.manifest is None:
        raise Failure("--resample group", "needs --group-by FILE")
    if args.per_document is not None:
        if args.documents is None:
            raise Failure("--per-document", "needs --documents FILE, which says what they are")
        table_writer(args.per_document)
    written = (args.output, args.per_sample, args.per_document, args.report, args.journal)
    paths = [os.path.realpath(path) for path in written if path]
    if len(set(paths)) < len(paths):
        raise Failure(None, "--output, --per-sample, --per-document, --report and --journal are different files")


def _check_fitting(args: argparse.Namespace, opened: Opened) -> None:
    """Options that the loss, or the form of its targets, has no use for."""
    if args.top_k is not None:
        if opened.loss.family != "classes" or not opened.labels:
            raise Failure(
                "--top-k",
                f"{opened.loss.name} has no class labels to look for among the largest scores"
                if opened.loss.family != "classes"
                else "needs class labels, not distributions",
            )
        if args.top_k > (n_classes := opened.n_classes):
            raise Failure("--top-k", f"{args.top_k} of {n_classes} classes")
    classifies = opened.loss.family == "binary" or opened.loss.family == "classes" and opened.labels
    for option in ("brier", "calibration"):
        if getattr(args, option) and not classifies:
            raise Failure(
                f"--{option}", f"needs predictions of classes, and labels; {opened.loss.name} has other ones here"
            )
    if args.brier and opened.layer is not None:
        raise Failure("--brier", "is computed from logits, which --linear-weight does not write")
    if args.entropy and (opened.loss.name != "cross_entropy" or not opened.labels):
        raise Failure("--entropy", "needs logits and class labels, as cross_entropy has them")
    for option in ("documents", "bytes"):
        if getattr(args, option) is not None and (problem := _no_log_probabilities(opened)):
            raise Failure(f"--{option}", problem)
    if opened.per_output:
        for option in ("per_sample", "group_by", "bootstrap", "report", "macro"):
            if getattr(args, option) is not None:
                raise Failure(f"--{option.replace('_', '-')}", "cannot be combined with --axis")


def _no_log_probabilities(opened: Opened) -> str | None:
    """Why the losses are no log-probabilities of targets."""
    if not opened.loss.likelihood or not opened.labels:
        return f"sums up log-probabilities of class labels, not {opened.loss.name} of what the targets are here"
    if opened.weights is not None or opened.label_smoothing:
        return "sums up log-probabilities, which have neither weights nor label smoothing"
    return None


def _grouping(args: argparse.Namespace, plan: Plan) -> Grouping | None:
    marked = plan.shards[0].shard.group is not None
    if args.group_by is None and not marked:
        if args.macro == "group":
            raise Failure("--macro group", "needs --group-by FILE, or groups in the manifest")
        if args.resample == "group":
            raise Failure("--resample group", "needs --group-by FILE, or groups in the manifest")
        return None
    from fastloss.cli.eval.stats.groups import Grouping, read_labels, uniform

    if args.group_by is not None:
        name, labels = args.group_by, read_labels(args.group_by)
    else:
        name, labels = args.manifest, uniform([shard.shard.group for shard in plan.shards], args.manifest)
    samples, losses = ([getattr(s, n) for s in plan.shards] for n in ("n_samples", "n_losses"))
    return Grouping(labels, samples, losses, name)


# Numbers of each sum that are kept for all groups together: beyond that, groups have no intervals.
_MOST_RESAMPLED = 200_000


def _has_group_intervals(args: argparse.Namespace, grouping: Grouping | None) -> bool:
    """Whether resamples are summed for each group: where they are few, and not what is drawn as a whole."""
    if grouping is None or args.bootstrap is None or args.resample == "group":
        return False
    return len(grouping.names) * args.bootstrap <= _MOST_RESAMPLED


def _documents(args: argparse.Namespace, plan: Plan) -> tuple[Documents | None, Bytes | None]:
    if args.documents is None and args.bytes is None:
        return None, None
    from fastloss.cli.eval.stats.documents import Bytes, Documents
    from fastloss.cli.eval.stats.groups import read_labels

    samples, losses = ([getattr(s, n) for s in plan.shards] for n in ("n_samples", "n_losses"))
    documents = n_bytes = None
    if args.documents is not None:
        documents = Documents(read_labels(args.documents, "document"), samples, losses, args.documents)
    if args.bytes is not None:
        n_bytes = Bytes(read_labels(args.bytes, "bytes"), samples, losses, documents, args.bytes)
    return documents, n_bytes


def _marks(
    grouping: Grouping | None, documents: Documents | None, n_bytes: Bytes | None
) -> Callable[[int, int, int], dict[str, np.ndarray]]:
    """What losses [start, stop) of a shard belong to, and what they stand for, as a `Place` has it."""

    def marks(shard: int, start: int, stop: int) -> dict[str, np.ndarray]:
        found = {}
        if grouping is not None:
            found["groups"] = grouping.codes(shard, start, stop)
        if documents is not None:
            found["documents"] = documents.codes(shard, start, stop)
        if n_bytes is not None:
            found["n_bytes"] = n_bytes.amounts(shard, start, stop)
        return found

    return marks


def _resampling(args: argparse.Namespace) -> Resampling | None:
    if args.bootstrap is None:
        return None
    from fastloss.cli.eval.stats.bootstrap import Resampling

    return Resampling(args.bootstrap, args.seed, args.resample)


def _check_outputs(paths: list[str], args: argparse.Namespace, plan: Plan) -> None:
    """No output is an input."""
    names = [name for shard in plan.shards for name in shard.shard.files.values()]
    inputs = [split(name)[0] for name in (*names, *(getattr(args, option) for option in _INPUTS)) if name is not None]
    inputs += [args.manifest] if args.manifest is not None else []
    stamps = None
    for path in paths:
        if os.path.exists(path):
            stamps = stamps or {(found.st_dev, found.st_ino) for found in map(os.stat, inputs)}
            if (os.stat(path).st_dev, os.stat(path).st_ino) in stamps:
                raise Failure(path, "is also an input; it would be overwritten")


def _journal_path(args: argparse.Namespace, plan: Plan, paths: list[str]) -> str | None:
    """The journal that was named, or one beside the first output of a run of several pieces."""
    if args.journal is not None:
        return args.journal
    if paths and (plan.n_pieces > 1 or args.resume):
        regular = [path for path in paths if not os.path.exists(path) or os.path.isfile(path)]
        return f"{regular[0]}.journal" if regular else None
    if args.resume:
        raise Failure(
            "--resume",
            "needs the journal of the run: --journal FILE, or its --output, --per-sample, --per-document or --report",
        )
    return None
