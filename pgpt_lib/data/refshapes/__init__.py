"""RefShapes: a seeded world of shapes on textured grounds, with everything that the series trains and scores."""

from .world import RefShapesImages, RefShapesStream, question_samples, rec_samples, scene_of, task_samples

__all__ = ["RefShapesImages", "RefShapesStream", "question_samples", "rec_samples", "scene_of", "task_samples"]
