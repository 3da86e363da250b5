"""Reports: self-contained HTML pages about a corpus, a training run, an evaluation, a bulk dubbing run, or the demo."""

from tasks.report.corpus import corpus_report
from tasks.report.demo import DemoFacts, demo_report
from tasks.report.dubs import dubs_report
from tasks.report.evaluation import evaluation_report
from tasks.report.training import training_report

__all__ = ["DemoFacts", "corpus_report", "demo_report", "dubs_report", "evaluation_report", "training_report"]
