"""Exercise checks: `check_giou(my_function)` prints one line when it is right and raises `CheckFailed` when it is not.

Every check takes the function under check and a seed for its inputs, accepts any right solution, and names the mistake
in a wrong one. What a solution is called with and must return stands in each check's docstring.
"""

from __future__ import annotations

from .base import CheckFailed
from .evaluation import check_acc_at_half, check_free_running_miss
from .losses import check_dice, check_giou
from .model import check_fusion, check_normalise, check_parameter_count, check_vis_position
from .regions import check_cxcywh, check_mask_bounds, check_position_code, check_rle
from .training import check_label_mask, check_resume_order

NOTEBOOKS = {  # a notebook's exercises
    "00_setup_and_data": (check_mask_bounds, check_rle),
    "01_layer_fusion": (check_fusion, check_normalise),
    "02_vis_heads": (check_cxcywh, check_position_code),
    "03_losses": (check_giou, check_dice),
    "04_model_and_decoding": (check_vis_position, check_parameter_count),
    "05_training": (check_label_mask, check_resume_order),
    "06_evaluation": (check_acc_at_half, check_free_running_miss),
}

__all__ = [
    "NOTEBOOKS",
    "CheckFailed",
    "check_acc_at_half",
    "check_cxcywh",
    "check_dice",
    "check_free_running_miss",
    "check_fusion",
    "check_giou",
    "check_label_mask",
    "check_mask_bounds",
    "check_normalise",
    "check_parameter_count",
    "check_position_code",
    "check_resume_order",
    "check_rle",
    "check_vis_position",
]
