# SPDX-License-Identifier: BSD-3-Clause
"""What the lives of a case say together."""


def verdict(whole, cut, by_torch, by_torchkeep):
    """(outcome, words)."""
    if "end" not in whole:
        return "does not run", whole.get("does_not_run") or whole.get("error", "")
    torch_fails = failure(whole, {}, by_torch)
    keep_fails = failure(whole, cut, by_torchkeep)
    if keep_fails is None:
        return "exact", f"but not by PyTorch: {torch_fails}" if torch_fails else ""
    if torch_fails is None:
        return "worse", keep_fails
    return "PyTorch cannot", f"{torch_fails} | torchkeep: {keep_fails}"


def failure(whole, cut, resumed):
    """Why a resumed training is not the whole one, or None."""
    for life in (cut, resumed):
        if "error" in life:
            return life["error"]
        if life.get("said") and life is cut:
            return f"said when saving: {'; '.join(dict.fromkeys(life['said']))}"
    if cut and cut["at_cut"] != whole["at_cut"]:
        return f"the training differs already before the cut in {', '.join(differing(whole['at_cut'], cut['at_cut']))}"
    if "end" not in resumed:
        return "it did not come to the end"
    for moment, words in (("at_cut", "right after the resume"), ("end", "at the end")):
        parts = differing(whole[moment], resumed[moment])
        if parts:
            return f"{words} other bits in {', '.join(parts)}"
    return f"said: {'; '.join(dict.fromkeys(resumed['said']))}" if resumed.get("said") else None


def differing(one, other):
    return [part for part in one if one[part] != other.get(part)]
