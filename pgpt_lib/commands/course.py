"""`course`: build a course from the notebooks' sources, grade a class, and rank projects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._output import JsonFlag, log, new_app, results

app = new_app(help="Build and grade a course of the notebooks.")
Only = Annotated[
    list[str] | None, typer.Option("--assignment", help="Only this one, as 03_losses; may be given again.")
]


@app.callback()
def course() -> None:
    """Build and grade a course of the notebooks."""


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder of the course.")],
    profile: Annotated[str, typer.Option(help="What the assignments' parameters cells say.")] = "smoke",
    assignment: Only = None,
    json: JsonFlag = False,
) -> None:
    """Write assignments, solutions, syllabus and nbgrader's course folder."""
    from ..course.building import build_course

    with results(json) as emit:
        emit(build_course(out, profile, assignment or (), log))


@app.command()
def grade(
    submitted: Annotated[Path, typer.Option(help="STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb, nbgrader's layout.")],
    out: Annotated[Path, typer.Option(help="Folder for grades.csv and feedback; an earlier grading goes on.")],
    assignment: Only = None,
    seed: Annotated[int | None, typer.Option(help="Of the hidden tests' inputs; by default drawn once.")] = None,
    workers: Annotated[int, typer.Option(help="Submissions graded at once.")] = 2,
    cell_seconds: Annotated[int, typer.Option(help="The longest that a cell may take.")] = 60,
    total_seconds: Annotated[int, typer.Option(help="The longest that a submission's cells may take.")] = 300,
    memory: Annotated[float, typer.Option(help="GB of memory that a submission may use.")] = 4.0,
    json: JsonFlag = False,
) -> None:
    """Grade a class without a person: a table of points and messages, and a page of feedback for each submission."""
    from ..course.grading import Limits, grade_class

    with results(json) as emit:
        limits = Limits(cell_seconds, total_seconds, memory)
        emit(grade_class(submitted, out, assignment or (), seed, workers, limits, log))


@app.command()
def split(
    out: Annotated[Path, typer.Option(help="New folder: truth/ for the teacher, questions/ for students.")],
    pictures: Annotated[int, typer.Option(help="Number of pictures.")] = 50,
    seed: Annotated[int | None, typer.Option(help="Of the scenes; by default drawn.")] = None,
    level: Annotated[str, typer.Option(help="smoke, cpu or gpu.")] = "cpu",
    json: JsonFlag = False,
) -> None:
    """Write RefShapes questions for the projects, open or hidden ones."""
    from ..course.splits import write_split

    with results(json) as emit:
        emit(write_split(out, pictures, seed, level))


@app.command()
def answer(
    checkpoint: Annotated[Path, typer.Option(help="A step_N, or a folder of them: then the last complete one.")],
    questions: Annotated[Path, typer.Option(help="The folder `questions` that `course split` wrote.")],
    out: Annotated[Path, typer.Option(help="The predictions file, such as hidden.json.")],
    quantity: Annotated[str | None, typer.Option(help="A signal of the model: its values in place of boxes.")] = None,
    json: JsonFlag = False,
) -> None:
    """Answer a project's questions with a trained checkpoint; prints what budget the training used."""
    from ..course.answering import answer_questions

    with results(json) as emit:
        emit(answer_questions(checkpoint, questions, out, quantity))


@app.command()
def claim(
    predictions: Annotated[Path, typer.Option(help="The answers to the open questions, such as open.json.")],
    open_questions: Annotated[Path, typer.Option("--open", help="What `course split` wrote for the open questions.")],
    quantity: Annotated[str | None, typer.Option(help="centre or extent, where the answers are its values.")] = None,
    json: JsonFlag = False,
) -> None:
    """Score answers to a project's open questions: the number for `result.json` to claim."""
    from ..course.leaderboard import claim as score

    with results(json) as emit:
        emit(score(predictions, open_questions, quantity))


@app.command()
def leaderboard(
    results_folder: Annotated[Path, typer.Option("--results", help="Folder of hand-ins, each with a result.json.")],
    open_questions: Annotated[Path, typer.Option("--open", help="What `course split` wrote for the open questions.")],
    hidden_questions: Annotated[Path, typer.Option("--hidden", help="The same for the hidden ones.")],
    baseline: Annotated[Path | None, typer.Option(help="A hand-in to be better than; its budget counts.")] = None,
    json: JsonFlag = False,
) -> None:
    """Rank a project's hand-ins on the hidden questions; refuse those that do not score as they claim."""
    from ..course.leaderboard import leaderboard as rank

    with results(json) as emit:
        table = rank(results_folder, open_questions, hidden_questions, baseline)
        emit(table, _lines(table["rows"]))


def _lines(rows: list[dict[str, Any]]) -> str:
    """The table for a person."""
    lines = []
    for row in rows:
        if row["refused"]:
            lines.append(f" -  {row['name']:<24} refused: {row['refused']}")
        else:
            score = f"{row['project']}  {row['score']:.4f}  {row['points']:g} of {row['of']} points"
            lines.append(f"{row['place']:>2}  {row['name']:<24} {score}")
    return "\n".join(lines)
