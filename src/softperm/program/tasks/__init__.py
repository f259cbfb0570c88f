"""Tasks: data, network, loss and metrics of one problem."""

from softperm.nn import Puzzle
from softperm.program.tasks.base import Task
from softperm.program.tasks.jigsaw import Jigsaw, JigsawConfig
from softperm.program.tasks.sorting import Sorting, SortingConfig

__all__ = ["Jigsaw", "JigsawConfig", "Puzzle", "Sorting", "SortingConfig", "Task"]
