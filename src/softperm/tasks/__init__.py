"""Tasks: data, network, loss and metrics of one problem."""

from softperm.nn import Puzzle
from softperm.tasks.base import Task
from softperm.tasks.jigsaw import Jigsaw, JigsawConfig
from softperm.tasks.sorting import Sorting, SortingConfig

__all__ = ["Jigsaw", "JigsawConfig", "Puzzle", "Sorting", "SortingConfig", "Task"]
