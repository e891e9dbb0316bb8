"""Whether two engines computed the same."""


def disagreement(found, right, case, row):
    """Why these outputs are not those of the reference, or None. The largest relative difference goes to the row's `error`, the
    root of the mean square, of the output where that is most, to its `rms`."""
    if len(found) != len(right):
        return f"{len(found)} outputs in place of {len(right)}"
    row |= {"error": 0.0, "rms": 0.0}
    for index, (ours, theirs) in enumerate(zip(found, right)):
        where = "" if len(right) == 1 else f" {index}"
        if ours.size != theirs.size:  # some engines drop axes of one element
            return f"output{where} is {list(ours.shape)}, not {list(theirs.shape)}"
        if theirs.dtype.kind != "f":
            wrong = unequal(ours.ravel(), theirs.ravel(), case.steps)
            if wrong:
                return f"{wrong} of {theirs.size} elements of output{where} differ"
            continue
        error, rms = difference(ours.ravel(), theirs.ravel(), case.least)
        for key, value in (("error", error), ("rms", rms)):
            if not value <= row[key]:  # more, or NaN
                row[key] = value
        off = rms if case.by_rms else error
        if not off <= case.tolerance:
            return f"output{where} differs by {off:.0e} of the largest element"
    return None


def unequal(ours, right, steps):
    """How many integers are more than so many steps apart."""
    import numpy as np

    if steps:
        return int((abs(ours.astype(np.int64) - right.astype(np.int64)) > steps).sum())
    return int((ours != right).sum())


def change(found, right, least):
    """As `error` and `rms`, what outputs in f32 are off by."""
    floats = [pair for pair in zip(found, right, strict=True) if pair[1].dtype.kind == "f"]
    pairs = [difference(ours.ravel(), theirs.ravel(), least) for ours, theirs in floats]
    return tuple(max(column) for column in zip(*pairs)) or (0.0, 0.0)


def difference(ours, right, least):
    """The largest difference, and the root of the mean of their squares, as shares of the largest absolute value, or of `least` if that
    is more; NaN if one of them is."""
    import numpy as np

    ours, right = ours.astype(np.float64), right.astype(np.float64)
    if not right.size:
        return 0.0, 0.0
    off = (ours - right) / (max(abs(right).max(), least) or 1.0)
    return float(abs(off).max()), float(np.sqrt((off * off).mean()))
