"""The order of equal scores: numpy 1.23's argsort, reversed, as the original has it."""

from collections.abc import Sequence

_INSERTION_SORT_SPAN = 16  # numpy sorts spans up to this (last index - first index) by insertion, which is stable


def confidence_order(scores: Sequence[float]) -> list[int]:
    """Indices from the highest score to the lowest; of equal ones the later comes first, as in `argsort()[::-1]`.

    Longer lists with equal scores follow numpy's quicksort move by move, which is not stable.
    """
    if len(scores) <= _INSERTION_SORT_SPAN + 1 or len(set(scores)) == len(scores):
        return sorted(range(len(scores)), key=scores.__getitem__)[::-1]
    return _quicksort(scores)[::-1]


def _quicksort(scores: Sequence[float]) -> list[int]:
    """numpy's indirect quicksort: median of three, the larger part put off, insertion sort for short spans."""
    order = list(range(len(scores)))
    spans = [(0, len(scores) - 1)]
    while spans:
        low, high = spans.pop()
        while high - low > _INSERTION_SORT_SPAN:
            middle = _partition(order, scores, low, high)
            if middle - low < high - middle:
                spans.append((middle + 1, high))
                high = middle - 1
            else:
                spans.append((low, middle - 1))
                low = middle + 1
        order[low : high + 1] = sorted(order[low : high + 1], key=scores.__getitem__)
    return order


def _partition(order: list[int], scores: Sequence[float], low: int, high: int) -> int:
    middle = low + (high - low) // 2
    for left, right in ((low, middle), (middle, high), (low, middle)):
        if scores[order[right]] < scores[order[left]]:
            order[left], order[right] = order[right], order[left]
    pivot = scores[order[middle]]
    i, j = low, high - 1
    order[middle], order[j] = order[j], order[middle]
    while True:
        i += 1
        while scores[order[i]] < pivot:
            i += 1
        j -= 1
        while pivot < scores[order[j]]:
            j -= 1
        if i >= j:
            break
        order[i], order[j] = order[j], order[i]
    order[i], order[high - 1] = order[high - 1], order[i]
    return i
