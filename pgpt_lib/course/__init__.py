"""The series as a course: assignments made from the notebooks' sources, and graded by nbgrader without a person."""
