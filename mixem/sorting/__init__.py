"""What is done with clusters once they are found: a table, a page, folders, a map."""

from mixem.sorting.duplicates import near_duplicates, same_files
from mixem.sorting.folders import Sorted, sort_into
from mixem.sorting.gallery import gallery
from mixem.sorting.table import ClusterTable, table, write_table

__all__ = [
    "ClusterTable",
    "Sorted",
    "gallery",
    "near_duplicates",
    "same_files",
    "sort_into",
    "table",
    "write_table",
]
