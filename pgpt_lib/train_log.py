"""A training's record on disk and its progress on screen."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .card_use import CardUse
from .data.sample import Sample
from .errors import InputError
from .files import write_text
from .optimisation import StepFigures


class TrainLog:
    """`train.jsonl`: one JSON object a line, each with its `step`, in order and without doubles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line in one write, so that a kill leaves at most the last line incomplete."""
        line = (json.dumps(record) + "\n").encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def truncate(self, step: int) -> None:
        """Keep the lines up to a step, those that the checkpoint of this step stands for; 0 empties the log."""
        records = self.records() if self.path.exists() else []
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in records if record["step"] <= step))

    def records(self) -> list[dict[str, Any]]:
        """All complete lines; a last one that a kill cut short is left out.

        Raises:
            InputError: another line is not JSON.
        """
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                if number == len(lines) and not line.endswith("\n"):
                    break
                raise InputError(f"{self.path}, line {number}: not JSON: {line[:60]!r}") from None
        return records


class Window:
    """The steps since the last record, to be logged as their mean. After a resumption the first window may be short.

    Args:
        processes: how many train together; each sees its share of the samples.
        cards: measures the cards that are trained on, where there are any.
    """

    def __init__(self, processes: int = 1, cards: CardUse | None = None) -> None:
        self.processes, self.cards = processes, cards
        self.restart()

    def restart(self) -> None:
        """Begin a window, now: what was done between a record and this is in no window's time."""
        self.figures: list[StepFigures] = []
        self.expressions, self.dialogues, self.began = 0, 0, time.monotonic()

    def add(self, figures: StepFigures, samples: Sequence[Sample]) -> None:
        """One step more; `samples` are those of all its micro-batches."""
        self.figures.append(figures)
        self.dialogues += self.processes * len(samples)
        self.expressions += self.processes * sum(
            turn.role == "assistant" for sample in samples for turn in sample.turns
        )

    def record(self, step: int, rate: float, seconds: float) -> dict[str, Any]:
        """The record of the window; `restart` begins the next one.

        Args:
            step: optimiser steps done.
            rate: the learning rate of the last of them.
            seconds: in training so far.
        """
        passed = max(time.monotonic() - self.began, 1e-9)
        count, regions = len(self.figures), sum(f.regions for f in self.figures)
        record = {
            "step": step,
            "loss": sum(f.loss for f in self.figures) / count,
            "losses": {name: sum(f.losses[name] for f in self.figures) / count for name in self.figures[0].losses},
            "lr": rate,
            "grad_norm": sum(f.grad_norm for f in self.figures) / count,
            "tokens": sum(f.tokens for f in self.figures) / count,  # supervised, a step
            # Teacher-forced: would the model itself have emitted the answer's `<vis>`, given the answer so far?
            "emission": sum(f.emitted for f in self.figures) / regions if regions else None,
            "expressions_per_second": self.expressions / passed,
            "seconds": seconds,
        }
        if self.cards is not None:
            record |= self.cards.figures(self.dialogues, sum(f.positions for f in self.figures), passed)
        return record


class Progress:
    """On standard error: a bar on a terminal, elsewhere one line for each record, so that a log stays readable."""

    def __init__(self, steps: int, done: int, shown: bool = True) -> None:
        self.steps = steps
        self.shown = shown
        live = shown and sys.stderr.isatty()
        self.bar = tqdm(total=steps, initial=done, unit="step", file=sys.stderr) if live else None

    def advance(self) -> None:
        """One step more."""
        if self.bar is not None:
            self.bar.update()

    def report(self, record: Mapping[str, Any]) -> None:
        """Show a record of the log."""
        terms = ", ".join(f"{name} {value:.4f}" for name, value in record["losses"].items())
        figures = f"loss {record['loss']:.4f}, {terms}"
        if self.bar is not None:
            self.bar.set_postfix_str(figures)
        elif self.shown:
            speed = f"{record['expressions_per_second']:.0f} expressions/s, {record['seconds']:.0f} s"
            if record.get("peak_memory_gb") is not None:
                speed += f", {record['peak_memory_gb']:.1f} GB"
            if record.get("mfu") is not None:
                speed += f", MFU {record['mfu']:.0%}"
            print(f"step {record['step']} of {self.steps}: {figures}, {speed}", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """A line of its own, shown always."""
        if self.bar is not None:
            self.bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()  # leaves the terminal in order
