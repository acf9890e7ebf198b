"""Evaluation results: what an evaluator said of a release, case by case."""
