"""Evaluation, free-running: a model's answers, and each task's scores with intervals.

`predictions` asks the model, `teacher` gives it the true words; `grounding`, `words` and `dialogue` score one family of
tasks each; `scores` puts them together, `checkpoint` does so for a trained checkpoint and a data set's split.
"""

from __future__ import annotations

from .predictions import Prediction as Prediction
from .predictions import predict as predict
from .predictions import save_predictions as save_predictions
from .scores import TASKS as TASKS
from .scores import Evaluation as Evaluation
from .scores import evaluate as evaluate
from .scores import score as score
