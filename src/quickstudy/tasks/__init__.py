"""Where episodes come from: tables, folders, data sets by name, and drawn toy tasks. One source, one file."""

from quickstudy.tasks.base import TaskSource as TaskSource
from quickstudy.tasks.binary import BinaryTasks as BinaryTasks
from quickstudy.tasks.blobs import GaussianBlobs as GaussianBlobs
from quickstudy.tasks.conformance import check_source as check_source
from quickstudy.tasks.data_folder import data_file as data_file
from quickstudy.tasks.draws import Size as Size
from quickstudy.tasks.encoded import Encode as Encode
from quickstudy.tasks.encoded import EncodedTexts as EncodedTexts
from quickstudy.tasks.episodes import MixedTasks as MixedTasks
from quickstudy.tasks.episodes import TableTasks as TableTasks
from quickstudy.tasks.folder import FolderTasks as FolderTasks
from quickstudy.tasks.hard import HardClasses as HardClasses
from quickstudy.tasks.intents import INTENTS as INTENTS
from quickstudy.tasks.intents import read_intents as read_intents
from quickstudy.tasks.reading import read_table as read_table
from quickstudy.tasks.reading import read_texts as read_texts
from quickstudy.tasks.reviews import ReviewTasks as ReviewTasks
from quickstudy.tasks.sinusoids import Sinusoids as Sinusoids
from quickstudy.tasks.splits import check_disjoint as check_disjoint
from quickstudy.tasks.splits import split_classes as split_classes
from quickstudy.tasks.splits import split_domains as split_domains
from quickstudy.tasks.splits import split_examples as split_examples
from quickstudy.tasks.table import Table as Table
from quickstudy.tasks.table import class_text as class_text
from quickstudy.tasks.table import text_key as text_key
