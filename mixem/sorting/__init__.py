"""What is done with clusters once they are found: a table, a page, folders, a map, another k.

>>> from mixem.sorting import near_duplicates, table
>>> found = table(["a.png", "b.png", "c.png"], [0, 0, 1], features=[[1, 0], [2, 1], [0, 1]])
>>> found.rank.tolist()
[1, 2, 1]
>>> near_duplicates([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
(array([0, 1]),)
"""

from mixem.sorting.choose_k import Choice, KSignals, choose_k, k_panels
from mixem.sorting.duplicates import near_duplicates, same_files
from mixem.sorting.folders import Sorted, sort_into
from mixem.sorting.gallery import gallery
from mixem.sorting.heads import HeadsResult, train_heads
from mixem.sorting.maps import PixelMap, map_picture, map_pictures, palette, write_map, write_shares
from mixem.sorting.picture_map import map_places, picture_map
from mixem.sorting.table import ClusterTable, table, write_table

__all__ = [
    "Choice",
    "ClusterTable",
    "HeadsResult",
    "KSignals",
    "PixelMap",
    "Sorted",
    "choose_k",
    "gallery",
    "k_panels",
    "map_picture",
    "map_pictures",
    "map_places",
    "near_duplicates",
    "palette",
    "picture_map",
    "same_files",
    "sort_into",
    "table",
    "train_heads",
    "write_map",
    "write_shares",
    "write_table",
]
