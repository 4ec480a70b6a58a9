"""Published results, measured again: `quickstudy reproduce NAME`."""

from quickstudy.reproduce.base import Reproduction as Reproduction
from quickstudy.reproduce.base import Row as Row
from quickstudy.reproduce.base import Work as Work
from quickstudy.reproduce.base import measured as measured
from quickstudy.reproduce.names import reproduction as reproduction
from quickstudy.reproduce.names import reproductions as reproductions
from quickstudy.reproduce.run import RunOptions as RunOptions
from quickstudy.reproduce.run import run_reproduction as run_reproduction
