"""Evaluation results: the verdict of an evaluator on a release, case by case."""
