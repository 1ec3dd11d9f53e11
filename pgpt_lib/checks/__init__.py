"""Exercise checks: `check_giou(my_function)` prints one line when it is right and raises `CheckFailed` when it is not.

Every check takes the function under check and a seed for its inputs, accepts any right solution, and names the mistake
in a wrong one. What a solution is called with and must return stands in each check's docstring.
"""

from __future__ import annotations

from .base import CheckFailed, grading_seed
from .comparison import check_layer_shares, check_location_tokens, check_paired_interval, check_time_to_score
from .decoding import check_cached_decoding
from .evaluation import check_acc_at_half, check_ciou, check_free_running_miss
from .grids import check_mask_grid, check_position_code
from .losses import check_bce, check_dice, check_giou
from .model import check_fusion, check_normalise, check_parameter_count, check_ridge, check_vis_position
from .point import check_point_signal
from .pointing import check_clicked, check_dragged_box
from .regions import check_cxcywh, check_fractions, check_mask_bounds, check_rle
from .releases import check_code_test, check_dice_test, check_giou_test, check_token_line
from .speed import check_decode_seconds, check_step_seconds, check_token_count
from .training import check_label_mask, check_learning_rate, check_resume_order

NOTEBOOKS = {  # a notebook's exercises
    "00_setup_and_data": (check_mask_bounds, check_rle, check_fractions),
    "01_layer_fusion": (check_fusion, check_normalise, check_ridge),
    "02_vis_heads": (check_cxcywh, check_position_code, check_mask_grid, check_point_signal),
    "03_losses": (check_giou, check_dice, check_bce),
    "04_model_and_decoding": (check_vis_position, check_parameter_count, check_cached_decoding),
    "05_training": (check_label_mask, check_resume_order, check_learning_rate),
    "06_evaluation": (check_acc_at_half, check_free_running_miss, check_ciou),
    "07_representations": (check_location_tokens, check_time_to_score),
    "08_fusion_ablation": (check_layer_shares, check_paired_interval),
    "09_speed": (check_token_count, check_decode_seconds, check_step_seconds),
    "10_paper_code_ours": (check_giou_test, check_code_test, check_dice_test, check_token_line),
    "11_demo": (check_dragged_box, check_clicked),
}

__all__ = [
    "NOTEBOOKS",
    "CheckFailed",
    "check_acc_at_half",
    "check_bce",
    "check_cached_decoding",
    "check_ciou",
    "check_code_test",
    "check_clicked",
    "check_cxcywh",
    "check_decode_seconds",
    "check_dice",
    "check_dice_test",
    "check_dragged_box",
    "check_fractions",
    "check_free_running_miss",
    "check_fusion",
    "check_giou",
    "check_giou_test",
    "check_label_mask",
    "check_layer_shares",
    "check_learning_rate",
    "check_location_tokens",
    "check_mask_bounds",
    "check_mask_grid",
    "check_normalise",
    "check_paired_interval",
    "check_parameter_count",
    "check_point_signal",
    "check_position_code",
    "check_resume_order",
    "check_ridge",
    "check_rle",
    "check_step_seconds",
    "check_time_to_score",
    "check_token_count",
    "check_token_line",
    "check_vis_position",
    "grading_seed",
]
