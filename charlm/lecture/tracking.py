"""Chapter on tracking a state: the cells that learn the parity of a sequence.

Layers of h(t) = a(x(t)) h(t-1) + b(x(t)) with factors a above zero, as in minGRU and minLSTM,
cannot track parity at all lengths in finite precision. Sources: Grazzi et al. 2024 (arXiv
2411.12537), theorem 1; of states that are harder to track, Merrill et al. 2024 (arXiv 2404.08819).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes

from charlm.comparison.answering import SOLVED
from charlm.comparison.answers import answer
from charlm.lecture.chapter import Chapter
from charlm.lecture.lab import Lab, Trained, prepared_text
from charlm.reports.picture import GREY, Picture, on_axes, style_of
from charlm.reports.view import Table
from charlm.reports.words import Words
from charlm.text.files.tasks import TASKS, TIMES
from charlm.text.vocabulary import Vocabulary

TASK = replace(TASKS["parity"], longest=10)
CHARACTERS = 100_000
NONLINEAR, LINEAR = ("rnn", "lstm", "gru"), ("mingru", "minlstm")
CELLS = (*NONLINEAR, *LINEAR)
WIDTH, STEPS = 32, 1500
"""Units of the LSTM, which the others match in parameters; steps of all."""
RATE = 0.012
"""Learning rate of all, measured with seeds from 100 on (the chapter has seed 0) and on examples
that the chapter does not test. Least and greatest share of right answers over the seeds, in %, at
lengths of 6 to 10 / 11 to 20:

    seeds            0.008                0.012                0.016
       20  rnn       100 / 100            100 / 100            100 / 100
       20  lstm      100 / 96 to 100      100 / 100            100 / 100
       20  gru       100 / 75 to 100      100 / 89 to 100      100 / 75 to 100
        4  mingru    48 / 56 to 57        48 to 49 / 50 to 52  48 / 51
        4  minlstm   48 / 56 to 57        48 / 56              48 to 51 / 55 to 56

At 0.001, 0.002, 0.004, 0.03 and 0.06, too, mingru and minlstm stayed at 47 to 54 / 51 to 57;
without weight decay, or with four times the steps, they learned no more (two seeds).
"""
GUESSED = 0.6
"""Largest share of right answers that counts as guessing: of 200 guesses, more are right once in
500 tests."""

Shares = Mapping[str, Sequence[float]]
"""Share of right answers of each cell, by length as in `TIMES`."""

EQUATION = """\
parity:             p(t) = p(t-1) xor x(t)
minGRU, minLSTM:    h(t) = a(x(t)) h(t-1) + b(x(t)),   0 < a < 1"""


def parity(lab: Lab, words: Words) -> Chapter:
    """Train cells on the parity of short sequences, and test them on longer ones."""
    trained, vocabulary = _trained(lab)
    tests = [TASK.tests(times) for times in TIMES]
    shares = {
        cell: [
            float(answer(one.model, vocabulary, test, ends=TASK.ends).right.mean())
            for test in tests
        ]
        for cell, one in trained.items()
    }
    spans = [f"{TASK.lengths(times)[0]}–{TASK.lengths(times)[-1]}" for times in TIMES]
    rows = [
        (
            cell,
            f"{one.model.config.hidden_size}",
            f"{one.parameters:,}",
            *(f"{100 * share:.1f} %" for share in shares[cell]),
        )
        for cell, one in trained.items()
    ]
    first, *named = words.text("parity", "heading").split(" | ")
    bits = [words.text("parity", "bits", {"span": span}) for span in spans]
    values = {
        **{cell: 100 * own[1] for cell, own in shares.items()},
        "span": spans[1],
        "longest": TASK.longest,
        "shares": shares,
        "examples": len(tests[0]),
        "parameters": round(trained["lstm"].parameters, -3),
        "solved": 100 * SOLVED,
        "guessed": 100 * GUESSED,
    }
    return Chapter(
        "parity",
        [_picture(shares, spans, words), Table((first, *named, *bits), rows)],
        values,
        holds=is_shown(shares),
        equation=EQUATION,
        more="charlm compare rnn lstm gru mingru minlstm --task parity --seeds 3",
    )


def _trained(lab: Lab) -> tuple[dict[str, Trained], Vocabulary]:
    """Train all cells on the same examples; return them with their vocabulary."""
    changes = [
        *("model.cell=lstm", f"model.hidden_size={WIDTH}", "model.embedding_size=0"),
        *(f"train.steps={STEPS}", f"train.learning_rate={RATE}", "train.warmup_steps=50"),
        *("train.precision=float32", "train.device=cpu"),
    ]
    prepared = prepared_text(TASK.training_text(CHARACTERS), "task", changes)
    models = lab.train_each(CELLS, [prepared.config] * len(CELLS), prepared.corpus)
    return models, prepared.corpus.vocabulary


def is_shown(shares: Shares) -> bool:
    """Return True if all of `NONLINEAR` solve parity at the trained lengths and do more than guess
    beyond them, up to twice the longest, and if none of `LINEAR` does more than guess at any."""
    return all(
        shares[cell][0] >= SOLVED and shares[cell][1] > GUESSED for cell in NONLINEAR
    ) and all(max(shares[cell]) <= GUESSED for cell in LINEAR)


def _picture(shares: Shares, spans: Sequence[str], words: Words) -> Picture:
    def draw(axes: Axes, ink: str) -> None:
        for at, (cell, own) in enumerate(shares.items()):
            percent = [100 * share for share in own]
            axes.plot(percent, label=cell, markersize=5, **style_of(cell, at))
        axes.axhline(50, color=GREY, linestyle=":", linewidth=1)
        axes.set_xticks(range(len(spans)), spans)
        axes.set_ylim(-4, 104)
        axes.set_xlabel(f"bits (trained: 1–{TASK.longest})")
        axes.set_ylabel("% of answers right")
        axes.legend(loc="lower left", ncols=2)

    listed = "; ".join(
        f"{cell} " + ", ".join(f"{100 * share:.0f} %" for share in own)
        for cell, own in shares.items()
    )
    return Picture(
        "lecture-parity", words.text("parity", "figure"), words.text("parity", "caption"),
        f"Line chart: the share of right answers by the number of bits: {listed}.", on_axes(draw),
    )  # fmt: skip
