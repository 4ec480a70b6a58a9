"""How good a learner is, and how far its probabilities can be trusted."""

from quickstudy.evaluation.calibration import Bin as Bin
from quickstudy.evaluation.calibration import expected_calibration_error as expected_calibration_error
from quickstudy.evaluation.calibration import fit_temperature as fit_temperature
from quickstudy.evaluation.calibration import negative_log_likelihood as negative_log_likelihood
from quickstudy.evaluation.calibration import reliability as reliability
from quickstudy.evaluation.coverage import DensityScores as DensityScores
from quickstudy.evaluation.coverage import evaluate_density as evaluate_density
from quickstudy.evaluation.coverage import inside as inside
from quickstudy.evaluation.coverage import log_density as log_density
from quickstudy.evaluation.coverage import quantiles as quantiles
from quickstudy.evaluation.coverage import regression_calibration_error as regression_calibration_error
from quickstudy.evaluation.gaussian_process import oracle_scores as oracle_scores
from quickstudy.evaluation.intervals import Interval as Interval
from quickstudy.evaluation.intervals import SeedTable as SeedTable
from quickstudy.evaluation.intervals import interval as interval
from quickstudy.evaluation.intervals import paired_difference as paired_difference
from quickstudy.evaluation.intervals import seed_table as seed_table
from quickstudy.evaluation.out_of_scope import auroc as auroc
from quickstudy.evaluation.out_of_scope import choose_threshold as choose_threshold
from quickstudy.evaluation.out_of_scope import outside_recall as outside_recall
from quickstudy.evaluation.out_of_scope import scope_scores as scope_scores
from quickstudy.evaluation.protocol import Scores as Scores
from quickstudy.evaluation.protocol import evaluate as evaluate
from quickstudy.evaluation.writing import WritingScores as WritingScores
from quickstudy.evaluation.writing import evaluate_writing as evaluate_writing
