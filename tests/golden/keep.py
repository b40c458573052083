"""Choose the part of the golden figures that is kept here: `python tests/golden/keep.py FOLDER` writes it anew.

FOLDER holds all figures. What is not named below is kept, and so is every case that is new in FOLDER; the end tells
what the part weighs, and complains of more than LIMIT.
"""

import json
import shutil
import sys
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

KEPT = Path(__file__).parent
LIMIT = 4_000_000  # bytes of all that is written

# Cases of each file to leave out: of every kind that the tests know another stays, save those of networks whose weights
# weigh too much, and those that no test runs.
NOT_KEPT: dict[str, str] = {
    "schedules": "improved_linear_4000 improved_cosine_1000",
    "improved_diffusion": """
        q_cos20 q_sp20
        pmv_*_LEARNED pmv_START_X_LEARNED_RANGE pmv_cos50_* pmv_PREVIOUS_X_FIXED_LARGE
        loss_EPSILON_LEARNED_KL loss_EPSILON_LEARNED_RANGE_MSE loss_EPSILON_LEARNED_RANGE_RESCALED_KL
        p_sample_PREVIOUS_X_LEARNED* p_sample_PREVIOUS_X_FIXED_SMALL p_sample_EPSILON_LEARNED
        ddim_PREVIOUS_X_eta0* ddim_EPSILON_eta* ddim_reverse_EPSILON
        ploop_cos20_* ploop_sp20_PREVIOUS_X_* ddimloop_cos20_*
        dll_narrow rescale_timesteps_4000 timestep_embedding_*
        """,
    "latent_ddim": "",
    "lucidrains_unet_io": """
        forward_* cond_scale_* focus_* prob_focus_* bert_* trainer_pt_* grad_l1 grad_l1_null1
        temporal_attn_focus_all rmsnorm_16 rotary_32_*
        """,
    "lucidrains_sample": "unet_cond_* analytic_cond_dyn0_scale1.0 analytic_cond_dyn0_scale3.0 pmv_dyn_t0_19",
    "dome272": "cond_cfg1 uncond_betaend0.2",
    "diffusers_samplers": """
        ddim_eps_20 dpmpp2m_eps_20 unipc_v_20 euler_eps_20 heun_eps_20 dpmpp2m_karras_eps_20 heun_karras_eps_20
        dpm_pp_order2_linear_eps_20 unipc_linear_eps_20 heun_linear_eps_20 euler_linear_eps_20
        rescale_zero_snr_cosine min_snr_linear_g1 velocity_cosine_250_750
        """,
}

# Files whose tests ask for float32 by `GoldenCase.check` alone, which holds it against the float64 twin as well: there
# the twin stays and the float32 figure goes.
TWIN_SUFFICES = ("latent_ddim", "lucidrains_unet_io", "lucidrains_sample", "dome272", "diffusers_samplers")

# CASE/FIELD of each file to leave out besides: what no test reads, and the way of most walks beside their end.
DROPPED: dict[str, str] = {
    "latent_ddim": "*/n_noise_used *[!7]/x_inter *[!7]/pred_x0",
    "lucidrains_unet_io": "*/w/fn.rotary_emb.freqs */in_focus_present_mask",
    "lucidrains_sample": "*/n_noise_used",
    "dome272": "*/n_noise_used",
    "diffusers_samplers": "*/traj_b0 */kept */init_noise_sigma */snr */snr_f64",
}

WEIGHTS = ("lucidrains_unet_nocond.safetensors",)


def main(folder: Path) -> None:
    written = [path for name in NOT_KEPT for path in keep(folder, name)]
    written += [Path(shutil.copyfile(folder / name, KEPT / name)) for name in WEIGHTS]
    weighs = sum(path.stat().st_size for path in written)
    print(f"{weighs:,} bytes in {len(written)} files of {KEPT}")
    if weighs > LIMIT:
        sys.exit(f"that is more than {LIMIT:,}: name more cases or fields to leave out in {__file__}")


def keep(folder: Path, name: str) -> list[Path]:
    """Write the kept part of one file of figures: its arrays, and what is said of its cases."""
    about = json.loads((folder / f"{name}.cases.json").read_text(encoding="utf-8"))
    cases = {case: told for case, told in about["cases"].items() if not matches(case, NOT_KEPT[name])}
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        kept = {key: arrays[key] for key in arrays.files if is_kept(key, name, cases, arrays.files)}
    for case, told in cases.items():
        here = {key.removeprefix(f"{case}/").removesuffix("_f64") for key in kept if key.startswith(f"{case}/")}
        told["fields"] = {
            field: values for field, values in told["fields"].items() if field.removesuffix("_f64") in here
        }
    figures, list_of_cases = KEPT / f"{name}.npz", KEPT / f"{name}.cases.json"
    np.savez_compressed(figures, **kept)
    head = {"file": name, "source": about["source"], "cases_in_all": len(about["cases"])}
    list_of_cases.write_text(lines_of(head, cases), encoding="utf-8")
    return [figures, list_of_cases]


def is_kept(key: str, name: str, cases: Collection[str], keys: Collection[str]) -> bool:
    """Whether an array of a file stays, with these cases; `keys` are all the file has."""
    has_twin = f"{key}_f64" in keys
    dropped = matches(key, DROPPED.get(name, "")) or (has_twin and name in TWIN_SUFFICES)
    return key.partition("/")[0] in (*cases, "shared") and not dropped


def matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split())


def lines_of(head: dict[str, Any], cases: dict[str, Any]) -> str:
    """JSON with a line for each case, so that a changed choice is a readable change."""
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(told)}" for case, told in cases.items())
    return f'{json.dumps(head)[:-1]}, "cases": {{\n{lines}\n}}}}\n'


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where all the figures lie: python tests/golden/keep.py FOLDER")
    main(Path(sys.argv[1]))
