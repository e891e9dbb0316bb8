"""Whether two engines computed the same."""


def disagreement(found, right, case, row):
    """Why these outputs are not those of the reference, or None. The largest relative difference goes to the row's `error`."""
    if len(found) != len(right):
        return f"{len(found)} outputs in place of {len(right)}"
    row["error"] = 0.0
    for index, (ours, theirs) in enumerate(zip(found, right)):
        where = "" if len(right) == 1 else f" {index}"
        if ours.size != theirs.size:  # some engines drop axes of one element
            return f"output{where} is {list(ours.shape)}, not {list(theirs.shape)}"
        if theirs.dtype.kind != "f":
            wrong = unequal(ours.ravel(), theirs.ravel(), case.steps)
            if wrong:
                return f"{wrong} of {theirs.size} elements of output{where} differ"
            continue
        error = difference(ours.ravel(), theirs.ravel(), case.least)
        row["error"] = max(row["error"], error)
        if not error <= case.tolerance:
            return f"output{where} differs by {error:.0e} of the largest element"
    return None


def unequal(ours, right, steps):
    """How many integers are more than so many steps apart."""
    import numpy as np

    if steps:
        return int((abs(ours.astype(np.int64) - right.astype(np.int64)) > steps).sum())
    return int((ours != right).sum())


def difference(ours, right, least):
    """The largest difference, as a share of the largest absolute value, or of `least` if that is more; NaN if one of them is."""
    import numpy as np

    ours, right = ours.astype(np.float64), right.astype(np.float64)
    if not right.size:
        return 0.0
    return float(abs(ours - right).max() / (max(abs(right).max(), least) or 1.0))
