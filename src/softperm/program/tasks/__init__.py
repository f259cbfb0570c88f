"""Tasks: data, network, loss and metrics of one problem."""

from softperm.nn import Puzzle
from softperm.program.settings import JigsawConfig, SortingConfig
from softperm.program.tasks.base import Task
from softperm.program.tasks.jigsaw import Jigsaw
from softperm.program.tasks.sorting import Sorting

__all__ = ["Jigsaw", "JigsawConfig", "Puzzle", "Sorting", "SortingConfig", "Task"]
