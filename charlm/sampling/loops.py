"""Detection of loops: a text whose end repeats one stretch again and again."""

LOOKED_AT = 4000
"""Characters at the end of a text in which a loop is searched."""
ROUNDS, SPAN = 4, 120
"""Least repetitions and characters of a loop: fewer are common in running text, tables, rulers,
verse and genes."""


def runs_in_circles(text: str) -> bool:
    """Return True if a text ends with one stretch repeated, `ROUNDS` times or more, over `SPAN`
    characters or more.

    Source: the failure function of Knuth, Morris and Pratt 1977: a prefix of n symbols has the
    period n - failure(n). Of the reversed text, a prefix is the end of the text. Linear time.
    """
    if len(text) < SPAN:
        return False
    backward = text[: -LOOKED_AT - 1 : -1]
    failure = [0] * (len(backward) + 1)
    border = 0
    for end in range(1, len(backward)):
        while border and backward[end] != backward[border]:
            border = failure[border]
        border += backward[end] == backward[border]
        size = end + 1
        failure[size] = border
        if size >= max(SPAN, ROUNDS * (size - border)):
            return True
    return False
