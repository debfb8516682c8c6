"""Evaluation questions: data only, one YAML file a set. A new shipped set is one more file in this folder."""

from spillover.data.questions.judge_prompts import JudgePrompt, load_judge_prompts
from spillover.data.questions.load import load, sets

__all__ = ["JudgePrompt", "load", "load_judge_prompts", "sets"]
